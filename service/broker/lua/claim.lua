-- KEYS: unacked, unacked_index   ARGV: tag, highest score at which it may be claimed
-- Holds the message for as long as a lease lasts; answers the score that it has then, or nothing if
-- it is held after all or is gone.
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then return false end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return false end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] + time[2] / 1000000, ARGV[1])
return redis.call('ZSCORE', KEYS[2], ARGV[1])
