-- KEYS: unacked, unacked_index   ARGV: tags   Answers the tags that are no longer held.
-- The message, not the index, says what is held: renewing must never revive what was put back.
if #ARGV == 0 then return {} end -- the caller only asks whether Redis is there
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local unacked, index, lost = KEYS[1], KEYS[2], {}
for i = 1, #ARGV do
  if redis.call('HEXISTS', unacked, ARGV[i]) == 1 then
    redis.call('ZADD', index, now, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
