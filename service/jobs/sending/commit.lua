-- Commit a journal, which lasts from now on until it is applied; one that is not whole is dropped.
-- KEYS: the journal, the set of committed journals. ARGV: how many batches it must have.
-- Answers 1, or 0 where it was not whole.
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
  return 0
end
-- First what a full Redis refuses.
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], KEYS[1])
redis.call('PERSIST', KEYS[1])
return 1
