-- KEYS: unacked, unacked_index   ARGV: tags   Answers the tags that are no longer held.
-- The message, not the index, says who is held: renewing must never revive what was put back.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lost = {}
for i = 1, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[2], now, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
