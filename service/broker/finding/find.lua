-- Look for a job's message where messages lie, among the first of each place: this is for a person who
-- looks at one job, and must not hold up the others.
-- ARGV: what the message has in it, the most messages of a place to look at, unacked, unacked_index,
--       then lists and what is beside them. They are no KEYS: the user may only read some.
-- Answers: {place, what tells where in it, message, score}: of a delivery its tag and since when it is
--       held, of a list how many messages go before it, of a sorted set when it is due; or nothing.
local wanted, limit, unacked, index = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local function is_it(message)
  return string.find(message, wanted, 1, true)
end

local cursor, seen = '0', 0
repeat
  local page = redis.call('HSCAN', unacked, cursor, 'COUNT', 200)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    if is_it(page[2][i + 1]) then
      return {unacked, page[2][i], page[2][i + 1], redis.call('ZSCORE', index, page[2][i]) or ''}
    end
  end
  seen = seen + #page[2] / 2
until cursor == '0' or seen >= limit

for i = 5, #ARGV do
  local kind = redis.call('TYPE', ARGV[i])['ok']
  if kind == 'list' then
    local length = redis.call('LLEN', ARGV[i])
    local first = redis.call('LRANGE', ARGV[i], -limit, -1)
    for j = #first, 1, -1 do
      if is_it(first[j]) then return {ARGV[i], tostring(#first - j), first[j], ''} end
    end
    local last = length > limit and redis.call('LRANGE', ARGV[i], 0, limit) or {}
    for j = 1, #last do
      if is_it(last[j]) then return {ARGV[i], tostring(length - j), last[j], ''} end
    end
  elseif kind == 'zset' then
    local due = redis.call('ZRANGE', ARGV[i], 0, limit, 'WITHSCORES')
    for j = 1, #due, 2 do
      if is_it(due[j]) then return {ARGV[i], '', due[j], due[j + 1]} end
    end
  end
end
return {}
