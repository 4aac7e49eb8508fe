-- Claim a committed journal that nobody has worked on for a while.
-- KEYS: the set of committed journals. ARGV: the while, in seconds.
-- Answers the journal's key, or nil.
if redis.call('EXISTS', KEYS[1]) == 0 then return nil end -- as nearly always
local now = tonumber(redis.call('TIME')[1])
-- A time of the future was set before the server's clock went back.
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, 1)[1]
  or redis.call('ZRANGEBYSCORE', KEYS[1], now + ARGV[1], 'inf', 'LIMIT', 0, 1)[1]
if found then redis.call('ZADD', KEYS[1], now, found) end
return found
