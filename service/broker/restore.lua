-- KEYS: unacked, unacked_index, list
-- ARGV: tag, highest score at which it may be moved ('+inf': whatever it is), message, LPUSH or RPUSH
-- Answers 1 if the message was moved, 0 if it is held after all or is gone.
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or (ARGV[2] ~= '+inf' and tonumber(score) > tonumber(ARGV[2])) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
-- A full Redis allows this after the ZREM, as it takes no room. A user's rights may forbid it.
local answer = redis.pcall(ARGV[4], KEYS[3], ARGV[3])
if type(answer) == 'table' and answer['err'] then
  redis.call('ZADD', KEYS[2], score, ARGV[1])
  return answer
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
