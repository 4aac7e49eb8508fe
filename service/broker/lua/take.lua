-- Acknowledge what is finished, then take messages and record them as held, in one step.
--
-- A job that is scheduled waits in Redis and not in a worker: the sorted set `<list>.scheduled` has
-- the messages of a list that are not due yet, by the server's time at which each will be. A take
-- puts what it finds too early there, and takes from there first what has become due.
--
-- Nothing is taken from a queue that somebody has paused. A message of a paused task is moved to a
-- list of that task, beside the list that it was in. Once the task is resumed, takes from a list take
-- first what lies in such lists beside it, the oldest first: so nobody has to move it back. A job that
-- was cancelled is taken all the same, as its worker ends what waits for it: its message lies in such a
-- list of no task, or is scheduled for the moment 0, or `<unacked>_cancelled:<id>` tells of it.
--
-- A worker may have dozens of lists, nearly all of them empty, so the script asks for many at once
-- which of them are there at all.
--
-- KEYS: unacked, unacked_index, active waiters, wake, then the lists to take from (best first)
-- ARGV: messages wanted, bytes that a message may have (0: any), this waiter's id, waiters that may
--       be active (0: do not wait), seconds that one stays active, seconds of a lease, deliveries
--       that this worker holds already, 1 if this waiter may be active (0: it is not), number of
--       acks, the tags to acknowledge, then for each list the name of its queue
-- Answers: {verdict ('taken', 'active' or 'standby'), late acks, taken = {list, tag, message, ...},
--           unusable = {list, tag, message, reason, ...}, tags of scheduled jobs that are due,
--           milliseconds until the next one is, at most a minute's (-1: none is known),
--           milliseconds until one on standby may find a place among the active (else -1)}
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local now_text = string.format('%.6f', now)
local stamp = string.format('@%s%06d-', time[1], time[2])
local unacked, index, active, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lists = #KEYS - 4
local free, max_bytes, waiter = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local max_active, active_ttl, lease = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local held, was_active, acks, tags = tonumber(ARGV[7]), ARGV[8] == '1', tonumber(ARGV[9]), 9

local late = forget(unacked, index, {unpack(ARGV, tags + 1, tags + acks)})

-- The moment, in seconds since the epoch, that Python's `isoformat` has written; without an offset
-- it is UTC, as to Celery's worker. Nothing for another form, which Celery's worker deals with.
local function moment(text)
  local year, month, day, hour, minute, second, rest =
    string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d%.?%d*)(.*)$')
  if not year then return nil end
  local sign, hours, minutes = string.match(rest, '^([+-])(%d%d):(%d%d)$')
  if not sign and rest ~= '' and rest ~= 'Z' then return nil end
  local offset = sign and tonumber(sign .. '1') * (hours * 3600 + minutes * 60) or 0
  -- Days since the epoch, by a year that begins in March.
  local y, m = tonumber(year), tonumber(month)
  if m <= 2 then y, m = y - 1, m + 12 end
  local days = 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400)
    + math.floor((153 * (m - 3) + 2) / 5) + day - 719469
  return days * 86400 + hour * 3600 + minute * 60 + second - offset
end

-- Whether a job was cancelled: its worker ends what waits for it. What tells so lives for long; a day
-- more is enough now.
local function is_cancelled(id)
  return type(id) == 'string' and redis.call('EXPIRE', unacked .. '_cancelled:' .. id, 86400) == 1
end

-- When a message is due, if it is a scheduled job: by its publisher's word to the server, else by
-- the ETA that it had from the publisher's own clock. One that was cancelled is due at once.
local function due_at(payload)
  local headers, at = payload['headers'], payload['due']
  if type(headers) ~= 'table' then return nil end
  if type(at) ~= 'number' then
    at = headers['task'] and type(headers['eta']) == 'string' and moment(headers['eta'])
  end
  return at and is_cancelled(headers['id']) and now or at or nil
end

-- The tag of a message that nobody has scheduled, as of nearly every one, without decoding it: that
-- takes longer than all else here. Nothing where the text leaves a doubt; a quote inside a string
-- would have a backslash before it. The name of its task is needed only where one is paused.
local any_task_is_paused = false
local function tag_of_due(message)
  if any_task_is_paused
    or not string.find(message, '"eta": null', 1, true)
    or string.find(message, '"eta": "', 1, true)
    or string.find(message, '"due": ', 1, true) then
    return nil
  end
  local _, last = string.find(message, '"delivery_tag": "', 1, true)
  if not last or string.find(message, '"delivery_tag"', last, true) then return nil end
  return string.match(message, '^([%w-]+)"', last + 1)
end

-- Why a message cannot be used, else nothing, its tag, when it is due, and its headers.
local function read(message)
  if max_bytes > 0 and #message > max_bytes then
    return 'The message has ' .. #message .. ' bytes; the limit is ' .. max_bytes .. '.'
  end
  local due_now = tag_of_due(message)
  if due_now then return nil, due_now end
  local ok, payload = pcall(cjson.decode, message)
  if not ok then
    -- Half of a surrogate pair, or what is nested too deep, is JSON to Python, and the other way
    -- round: so the worker decides, which can say why it cannot read a message.
    local tag = string.match(message, '"delivery_tag"%s*:%s*"([%w-]+)"')
    -- The first task in the text is that of the headers: a quote in a string has a backslash.
    local task = string.match(message, '"task"%s*:%s*"([^"\\]+)"')
    if tag then return nil, tag, nil, {task = task} end
  end
  if not ok or type(payload) ~= 'table' then return 'The message is not a JSON object.' end
  local properties = payload['properties']
  if type(properties) ~= 'table' then return 'The message has no properties.' end
  local tag = properties['delivery_tag']
  if type(tag) ~= 'string' then return 'The message has no delivery tag.' end
  if not string.match(tag, '^[!-~]+$') then return 'The delivery tag is not printable ASCII.' end
  return nil, tag, due_at(payload), payload['headers']
end

local taken, unusable, due, count, bytes = {}, {}, {}, 0, 0
local left, moved = 0, 0

-- What was popped from a list and is not looked at yet, the next one last.
local ahead = {}

-- The next message of a list. After the first one it pops several in one command: as many as there is
-- room for, if they are as large as those before.
local function pop(list)
  if #ahead == 0 then
    local seen = count + moved
    local room = seen > 0 and math.floor((4194304 - bytes) / (bytes / seen + 1)) or 1
    local wanted = math.max(1, math.min(free - count, room, 16))
    local found = redis.call('RPOP', list, wanted) or {}
    for i = #found, 1, -1 do ahead[#ahead + 1] = found[i] end
  end
  return table.remove(ahead)
end

-- Give back to a list what was popped and is not taken after all.
local function give_back(list)
  if #ahead > 0 then redis.call('RPUSH', list, unpack(ahead)) end
  ahead = {}
end
-- The paused queues, the paused tasks, and the lists of these; then what is scheduled for each list;
-- then the lists. As all of it is read here, the server tells this client when any of it changes
-- (CLIENT TRACKING): whoever is active asks again also when a queue or a task is resumed.
local names = {unacked .. '_paused', unacked .. '_paused_tasks', unacked .. '_paused_lists'}
local first_scheduled, first_list = #names, #names + lists
for i = 1, lists do
  names[first_scheduled + i], names[first_list + i] = KEYS[4 + i] .. '.scheduled', KEYS[4 + i]
end

local function exist(from, to)
  local count = 0
  for start = from, to, 1000 do -- Lua does not unpack many thousands
    count = count + redis.call('EXISTS', unpack(names, start, math.min(to, start + 999)))
  end
  return count
end

-- Note which of these keys are there. `count` of them are; each half is asked for its own. Among so
-- few as `enough` it is not asked which they are: all of these may be there.
local is_there = {}
local function find(from, to, count, enough)
  local size = to - from + 1
  if count == size or count > 0 and size <= enough then
    for i = from, to do is_there[i] = true end
  elseif count > 0 then
    local middle = math.floor((from + to) / 2)
    local first = exist(from, middle)
    find(from, middle, first, enough)
    find(middle + 1, to, count - first, enough)
  end
end
local all = exist(1, #names)
local others = all > 0 and exist(1, first_list) or 0 -- than lists: mostly none
local unseen = all - others -- lists that are there, and that nothing was taken from yet
find(1, first_list, others, 1)
find(first_list + 1, #names, unseen, 8) -- to take from an empty list costs no more than to ask
any_task_is_paused = is_there[2]

local paused, popped, records, times = {}, {}, {}, {}
local is_of_paused = {} -- by a list's name
for i = 1, is_there[1] and lists or 0 do
  paused[i] = redis.call('HEXISTS', names[1], ARGV[tags + acks + i]) == 1
  is_of_paused[KEYS[4 + i]] = paused[i]
end

-- What there is only while a task is paused, or was and has messages beside a list.
local is_paused, pop_resumed, put_beside
local resumed = {} -- by a list's name the lists beside it from which to take
if is_there[2] or is_there[3] then
  local known = {}
  function is_paused(task)
    if type(task) ~= 'string' then return false end
    if known[task] == nil then known[task] = redis.call('HEXISTS', names[2], task) == 1 end
    return known[task]
  end

  -- What begins the names of the lists beside this one. With the length of its name: both that and
  -- the name of a task may have colons.
  local function start_beside(list)
    return unacked .. '_paused:' .. #list .. ':' .. list .. ':'
  end

  local beside, is_listed = redis.call('HGETALL', names[3]), {}
  for i = 1, #beside, 2 do
    local key, list = beside[i], beside[i + 1]
    local task = string.sub(key, #start_beside(list) + 1)
    is_listed[key] = true
    if task == '' or not (is_of_paused[list] or is_paused(task)) then
      resumed[list] = resumed[list] or {}
      table.insert(resumed[list], key)
    end
  end

  function pop_resumed(list)
    local keys = resumed[list]
    while keys and keys[1] do
      local message = redis.call('RPOP', keys[1])
      if message then return message end
      redis.call('HDEL', names[3], table.remove(keys, 1))
    end
  end

  -- Move a message of a paused task to the task's list; nothing, or why Redis refuses that.
  function put_beside(list, task, message)
    local key, answer = start_beside(list) .. task, nil
    if not is_listed[key] then answer = redis.pcall('HSET', names[3], key, list) end
    if type(answer) ~= 'table' then
      is_listed[key], answer = true, redis.pcall('LPUSH', key, message)
    end
    return type(answer) == 'table' and answer or nil
  end
end

local refusal
for i = 1, lists do
  local list, queue = KEYS[4 + i], ARGV[tags + acks + i]
  local scheduled, ripe = names[first_scheduled + i], 0
  local is_empty = paused[i] or unseen == 0 or not is_there[first_list + i]
  local is_seen = false
  if is_there[first_scheduled + i] then
    ripe = redis.call('ZCOUNT', scheduled, '-inf', paused[i] and '0' or now_text)
  end
  -- A reply of many megabytes, or a long row of what is only moved, would hold up all other clients.
  while count < free and bytes < 4194304 and moved < 100 and not refusal do
    local message, reason, tag, at, headers
    message = pop_resumed and pop_resumed(list)
    if message then
      popped[#popped + 1] = {'RPUSH', list, message}
      reason, tag, at = read(message)
      at = at and now -- it was due before
    elseif ripe > 0 then
      local first = redis.call('ZPOPMIN', scheduled)
      message, ripe = first[1], ripe - 1
      popped[#popped + 1] = {'ZADD', scheduled, first[2], message}
      reason, tag, at, headers = read(message)
      at = now
    else
      message = not is_empty and pop(list)
      if not message then
        is_empty = true
        break
      end
      if not is_seen then is_seen, unseen = true, unseen - 1 end
      popped[#popped + 1] = {'RPUSH', list, message}
      reason, tag, at, headers = read(message)
    end
    local task = is_paused and type(headers) == 'table' and headers['task']
    bytes = bytes + #message
    if at and at > now then
      redis.call('ZADD', scheduled, string.format('%.6f', at), message)
      popped[#popped] = nil
      is_there[first_scheduled + i], moved = true, moved + 1
    elseif task and is_paused(task) and not is_cancelled(headers['id']) then
      refusal = put_beside(list, task, message)
      if not refusal then popped[#popped] = nil end
      moved = moved + 1
    else
      count = count + 1
      -- Each delivery is held under a tag of its own: a worker that lost its lease then
      -- acknowledges a tag that is gone, and never what another worker holds. The tag has the
      -- lease in it, for workers whose own is shorter.
      tag = (tag or 'unusable') .. stamp .. count .. '/' .. lease
      -- In Kombu's form, with the queue itself as the address, so that any worker, ours or
      -- stock, puts it back exactly where it was. The message's own bytes are kept.
      records[#records + 1] = tag
      records[#records + 1] = '[' .. message .. ',"",' .. cjson.encode(queue) .. ']'
      times[#times + 1] = now; times[#times + 1] = tag
      local answer = reason and unusable or taken
      answer[#answer + 1] = i; answer[#answer + 1] = tag; answer[#answer + 1] = message
      if reason then answer[#answer + 1] = reason elseif at then due[#due + 1] = tag end
    end
  end
  give_back(list)
  left = left + ripe
  if not is_empty and left < 8 then
    local length = redis.call('LLEN', list)
    if not is_seen and length > 0 then unseen = unseen - 1 end
    left = left + length
  end
  for j = 1, resumed[list] and #resumed[list] or 0 do
    left = left + redis.call('LLEN', resumed[list][j])
  end
end
refusal = refusal or count > 0 and redis.pcall('HSET', unacked, unpack(records))
if type(refusal) ~= 'table' then
  refusal = count > 0 and redis.pcall('ZADD', index, unpack(times))
end
if type(refusal) == 'table' then
  -- As by a user's rights: what may not be held goes back to where it was.
  for i = 1, #records, 2 do redis.pcall('HDEL', unacked, records[i]) end
  for i = #popped, 1, -1 do redis.call(unpack(popped[i])) end
  return refusal
end

-- Whether this waiter was active, and is again from now on.
local function stays_active()
  return was_active and redis.call('ZADD', active, 'XX', 'CH', now, waiter) == 1
end

-- Whether there is room for this waiter among the active ones; it is one of them then. Else in how
-- many milliseconds there will be, if one of these is not heard of again.
local function becomes_active()
  local found, others, oldest = redis.call('ZRANGE', active, 0, -1, 'WITHSCORES'), 0, now
  for i = 1, #found, 2 do
    local asked = tonumber(found[i + 1])
    local is_heard = now - active_ttl < asked and asked < now + active_ttl -- the clock may go back
    if is_heard and found[i] ~= waiter then
      others, oldest = others + 1, math.min(oldest, asked)
    elseif not is_heard then
      redis.call('ZREM', active, found[i])
    end
  end
  if others >= max_active then
    return false, math.max(0, math.ceil((oldest + active_ttl - now) * 1000))
  end
  redis.call('ZADD', active, now, waiter)
  redis.call('EXPIRE', active, 60) -- one that is active for longer becomes so anew
  return true, -1
end

local verdict, next_due, look_again = 'taken', -1, -1
if max_active > 0 and count > 0 then
  -- With one job and nothing more to take, it waits on; else another one is to wait in its place,
  -- so that jobs are spread, and more of them are to come where there is more work.
  if held == 0 and count == 1 and count < free and left == 0 and stays_active() then
    verdict = 'active'
  else
    local leaves = was_active and redis.call('ZREM', active, waiter) or 0
    local wanted = math.max(leaves, math.min(left, 8))
    wanted = wanted > 0 and wanted - redis.call('LLEN', wake) or 0
    if wanted > 0 then
      redis.call('LPUSH', wake, unpack({'1', '1', '1', '1', '1', '1', '1', '1'}, 1, wanted))
      redis.call('EXPIRE', wake, 5)
    end
  end
elseif max_active > 0 and moved < 100 and bytes < 4194304 then
  local is_active = stays_active()
  if not is_active then is_active, look_again = becomes_active() end
  verdict = is_active and 'active' or 'standby'
end
if verdict == 'active' then
  -- What this script has taken from is not among what the server watches for this client any more.
  if count + moved > 0 then exist(1, #names) end
  for i = 1, lists do
    local is_waiting = is_there[first_scheduled + i] and not paused[i]
    local first = is_waiting
      and redis.call('ZRANGE', names[first_scheduled + i], 0, 0, 'WITHSCORES')[2]
    local wait = first and math.max(0, math.min(60000, math.ceil((first - now) * 1000)))
    if wait and (next_due < 0 or wait < next_due) then next_due = wait end
  end
end
return {verdict, late, taken, unusable, due, next_due, look_again}
