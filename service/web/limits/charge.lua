-- Charge callers for what they have done, by the generic cell rate algorithm (GCRA).
-- KEYS: for each caller and limit, the moment at which its quota is whole again, by this clock.
-- ARGV: for each, how many to charge, the seconds that one takes to come back, and the limit's.
-- Answers for each the seconds until its quota is whole again, as text.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local answers = {}
for i, key in ipairs(KEYS) do
  local count, step, seconds = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local whole = tonumber(redis.call('GET', key) or now)
  whole = math.min(math.max(whole, now), now + seconds) -- the clock may have been put back
  whole = whole + count * step
  redis.call('SET', key, string.format('%.6f', whole), 'PX', math.max(1, math.ceil((whole - now) * 1000)))
  answers[i] = string.format('%.6f', whole - now)
end
return answers
