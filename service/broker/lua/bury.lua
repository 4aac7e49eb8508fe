-- KEYS: unacked, unacked_index, dead letters
-- ARGV: tag, highest score at which it may be moved ('+inf': whatever it is), message, queue,
--       reason, deliveries
-- Answers 1 if the message was moved, 0 if it is held after all or is gone.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local letter = dead_letter(ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), now)
return move(ARGV[1], ARGV[2], 'LPUSH', KEYS[3], letter)
