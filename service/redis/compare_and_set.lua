-- KEYS: a record
-- ARGV: what it has to be now ('' for none), what it is to be ('' deletes it), its ttl in seconds
--       ('' keeps the one that it has), '1' to publish it on the channel of the key's name. Publish
--       only a change of a record that exists, with ttl '': where it is refused, the old one is put back
-- Answers 1 if it was so and is changed, else 0.
local before, after, ttl, publish = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if (redis.call('GET', KEYS[1]) or '') ~= before then return 0 end
if after == '' then
  redis.call('DEL', KEYS[1])
elseif ttl == '' then
  redis.call('SET', KEYS[1], after, 'KEEPTTL')
else
  redis.call('SET', KEYS[1], after, 'EX', ttl)
end
if publish == '1' then
  local told = redis.pcall('PUBLISH', KEYS[1], after)
  if type(told) == 'table' then  -- an error: nobody would be told by a second try either
    redis.call('SET', KEYS[1], before, 'KEEPTTL')
    return told
  end
end
return 1
