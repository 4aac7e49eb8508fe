-- KEYS: unacked, unacked_index   ARGV: tag, highest score at which it may be claimed
-- Holds the message for as long as a lease lasts; answers the score that it has then, or nothing if
-- it is held after all or is gone.
local unacked, index, tag = KEYS[1], KEYS[2], ARGV[1]
local score = redis.call('ZSCORE', index, tag)
if not score or tonumber(score) > tonumber(ARGV[2]) then return false end
if redis.call('HEXISTS', unacked, tag) == 0 then return false end
local time = redis.call('TIME')
redis.call('ZADD', index, time[1] + time[2] / 1000000, tag)
return redis.call('ZSCORE', index, tag)
