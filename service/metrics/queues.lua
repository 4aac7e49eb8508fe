-- Look at queues: how much waits in each, and since when.
--
-- KEYS: of each queue its dead letters, its lists, and the sorted sets of its scheduled jobs
-- ARGV: number of lists of a queue, which has as many sorted sets; the hash of paused tasks, that of
--       their lists (see take.lua), and what begins the name of each of these
-- Answers: {seconds, microseconds, then of each queue {messages that wait, those not yet due, those
--          of paused tasks, dead letters, ISO times at which the oldest of the lists were enqueued,
--          the earliest time at which a scheduled one was due that nobody took (or nothing)}}
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local each = tonumber(ARGV[1])

-- Something of another kind may be stored under the name of a queue: that counts as nothing.
local function number(...)
  local answer = redis.pcall(...)
  return type(answer) == 'number' and answer or 0
end

-- When a message was enqueued. The first `"queued_at"` is that of the headers: the body is base64.
local function queued_at(message)
  local place = string.find(message, '"queued_at"', 1, true)
  return place and string.match(message, '^"queued_at"%s*:%s*"([^"]+)"', place)
end

-- The lists of paused tasks beside each list, and whether the task of each is still paused. A key is
-- the start, then with colons between them the length of the name of the list beside it, that name
-- and the task.
local beside, found = {}, redis.pcall('HGETALL', ARGV[3])
for i = 1, #found, 2 do
  local key, list = found[i], found[i + 1]
  local task = string.sub(key, #(ARGV[4] .. #list .. ':' .. list .. ':') + 1)
  local is_paused = type(redis.pcall('HGET', ARGV[2], task)) == 'string'
  beside[list] = beside[list] or {}
  table.insert(beside[list], {key, is_paused})
end

local answers = {time[1], time[2]}
for first = 1, #KEYS, 1 + 2 * each do
  local waiting, scheduled, paused, oldest, due = 0, 0, 0, {}, ''
  local function count_waiting(list)
    waiting = waiting + number('LLEN', list)
    local message = redis.pcall('LINDEX', list, -1)
    local at = type(message) == 'string' and queued_at(message)
    if at then oldest[#oldest + 1] = at end
  end
  for key = first + 1, first + each do
    count_waiting(KEYS[key])
    for _, other in ipairs(beside[KEYS[key]] or {}) do
      if other[2] then paused = paused + number('LLEN', other[1]) else count_waiting(other[1]) end
    end
  end
  for key = first + 1 + each, first + 2 * each do
    waiting = waiting + number('ZCOUNT', KEYS[key], '-inf', now)
    scheduled = scheduled + number('ZCOUNT', KEYS[key], '(' .. now, '+inf')
    -- A score of 0 is that of a job that was cancelled: it has not waited.
    local earliest = redis.pcall('ZRANGEBYSCORE', KEYS[key], '(0', now, 'WITHSCORES', 'LIMIT', 0, 1)
    if earliest[2] and (due == '' or tonumber(earliest[2]) < tonumber(due)) then due = earliest[2] end
  end
  answers[#answers + 1] = {waiting, scheduled, paused, number('LLEN', KEYS[first]), oldest, due}
end
return answers
