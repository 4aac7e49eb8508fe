-- KEYS: unacked, unacked_index, dead letters
-- ARGV: tag, highest score at which it may be moved ('+inf': whatever it is), message, queue,
--       reason, deliveries
-- Answers 1 if the message was moved, 0 if it is held after all or is gone.
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or (ARGV[2] ~= '+inf' and tonumber(score) > tonumber(ARGV[2])) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local letter = dead_letter(ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), now)
local answer = redis.pcall('LPUSH', KEYS[3], letter)
if type(answer) == 'table' and answer['err'] then
  redis.call('ZADD', KEYS[2], score, ARGV[1])
  return answer
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
