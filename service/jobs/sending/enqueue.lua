-- Accept jobs: for each its record and its message in one step, and only if its id is new.
-- Keys are in ARGV, as each job has another number of them. On a Redis Cluster all have to be in one
-- slot, and a node tells by KEYS whether it has this slot.
-- KEYS: the key of the first record, if there is one.
-- ARGV: ttl in seconds, for records and for idempotency keys, which live as long; then for each job:
--   record's key, record ('' for a message that is not a job), message,
--   count of destinations, for each: command (LPUSH, PUBLISH, or the seconds until the message is
--     due: that is said in the message by this server's clock, then it is pushed), key,
--   '' for no conditions, or:
--     the most jobs that may wait, their most bytes, the most bytes of ended jobs' records (0: any),
--     idempotency key or '', its value ('<id> <fingerprint>'),
--     count of lists, the lists where jobs wait, the hash that has the lists beside these where the
--       jobs of paused tasks wait ('' for none),
--     '' for no caller, or: its key and the key of its open jobs (see `take_caller`), the seconds in
--       which one start comes back (0: no limit), the seconds of the limit of starts, the most open
--       jobs, their most bytes (0: any), the ttl of both keys.
-- Answers {verdict, value} for each job: {'new', the seconds until the caller has all its starts
--   again, if they are limited}, {'known', ''} (its id is), {'full', of what},
--   {'limited', '<limit> <seconds until one is left>'}, {'earlier', the idempotency key's value},
--   {'refused', why Redis refused the message}.
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local ttl = take()
local answers, beside = {}, {}
local function answer(verdict, value)
  answers[#answers + 1] = {verdict, value or ''}
end

-- The bytes that a list takes, by some of its newest messages; 0 where a server does not tell them.
local function bytes_of(list)
  local size = redis.pcall('MEMORY', 'USAGE', list, 'SAMPLES', 20)
  return type(size) == 'number' and size or 0
end

-- The bytes of the records of ended jobs, as store.lua has counted them.
local function held_bytes(key)
  local fields, bytes = redis.call('HGETALL', key), 0
  local now = #fields > 0 and tonumber(redis.call('TIME')[1])
  for i = 1, #fields, 2 do
    if tonumber(fields[i]) > now then
      bytes = bytes + fields[i + 1]
    else
      redis.call('HDEL', key, fields[i])
    end
  end
  return bytes
end

-- What a caller has had, from its key: `whole`, the moment at which it may start as many as ever
-- again (GCRA, as charge.lua has it); the count of its jobs that may be open, and the bytes of their
-- messages; and when `open`, the list of these jobs, was given its ttl. In one key, as each command
-- costs as much as all of this.
local function take_caller()
  local caller = {key = take()}
  if caller.key == '' then
    return nil
  end
  caller.open = take()
  for _, name in ipairs({'step', 'seconds', 'max_open', 'max_bytes', 'ttl'}) do
    caller[name] = tonumber(take())
  end
  local time = redis.call('TIME')
  caller.now = time[1] + time[2] / 1000000
  local stored = redis.call('GET', caller.key)
  if stored then
    local whole, count, bytes, kept = string.match(stored, '^(%S+) (%S+) (%S+) (%S+)$')
    caller.whole = math.min(tonumber(whole), caller.now + caller.seconds) -- the clock may go back
    caller.count, caller.bytes, caller.kept = tonumber(count), tonumber(bytes), tonumber(kept)
  else
    redis.call('DEL', caller.open)
    caller.whole, caller.count, caller.bytes, caller.kept = 0, 0, 0, 0
  end
  caller.whole = math.max(caller.whole, caller.now) + caller.step
  return caller
end

local function put_caller(caller)
  local text = string.format('%.6f %d %d %d', caller.whole, caller.count, caller.bytes, caller.kept)
  redis.call('SET', caller.key, text, 'EX', math.max(caller.ttl, caller.seconds))
end

-- Look at some of the caller's jobs, and forget those that have ended: `<bytes> <id>` of each.
local function forget_ended(caller, stem)
  for _ = 1, math.min(redis.call('LLEN', caller.open), 200) do
    local entry = redis.call('LPOP', caller.open)
    local size, id = string.match(entry, '^(%d+) (.*)$')
    local head = redis.call('GETRANGE', stem .. id, 0, 63)
    local state = string.match(head, '^{%s*"status"%s*:%s*"(%u+)"')
    if head == '' or state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
      caller.count, caller.bytes = caller.count - 1, caller.bytes - size
    else
      redis.call('RPUSH', caller.open, entry)
    end
  end
  redis.call('EXPIRE', caller.open, 2 * caller.ttl) -- a list that was empty for a moment has none
  caller.whole = caller.whole - caller.step
  put_caller(caller)
  caller.whole = caller.whole + caller.step
end

local function has_too_much(caller, size)
  return caller.max_open > 0 and caller.count >= caller.max_open and 'open-jobs 0'
    or caller.max_bytes > 0 and caller.bytes + size > caller.max_bytes and 'open-bytes 0'
end

-- The limit that one job more, of so many bytes, would exceed, and the seconds to wait, if any.
local function exceeded(caller, size, stem)
  local debt = caller.whole - caller.now
  if caller.step > 0 and debt > caller.seconds then
    return string.format('starts %.3f', debt - caller.seconds)
  end
  if has_too_much(caller, size) then
    forget_ended(caller, stem)
  end
  return has_too_much(caller, size)
end

local function charge(caller, id, size)
  if caller.max_open > 0 or caller.max_bytes > 0 then
    caller.count, caller.bytes = caller.count + 1, caller.bytes + size
    local length = redis.call('RPUSH', caller.open, size .. ' ' .. id)
    if length == 1 or caller.now - caller.kept > caller.ttl / 10 then
      caller.kept = caller.now
      redis.call('EXPIRE', caller.open, 2 * caller.ttl)
    end
  end
  put_caller(caller)
end

while at <= #ARGV do
  local key, record, message = take(), take(), take()
  local destinations = {}
  for _ = 1, tonumber(take()) do
    destinations[#destinations + 1] = {take(), take()}
  end
  local conditions, idempotency_key, value, full, caller = take(), '', '', nil, nil
  local stem = '' -- of all records' keys
  if conditions ~= '' then
    local max_jobs, max_bytes, max_held = tonumber(conditions), tonumber(take()), tonumber(take())
    local waiting, bytes = 0, 0
    idempotency_key, value = take(), take()
    local lists, is_one = {}, {}
    for i = 1, tonumber(take()) do
      lists[i] = take()
      is_one[lists[i]] = true
    end
    local apart = take()
    if apart ~= '' and not beside[apart] then beside[apart] = redis.call('HGETALL', apart) end
    local found = beside[apart] or {}
    for i = 1, #found, 2 do
      if is_one[found[i + 1]] then lists[#lists + 1] = found[i] end
    end
    for _, list in ipairs(lists) do
      local length = redis.call('LLEN', list)
      waiting = waiting + length
      if length > 0 and max_bytes > 0 then
        bytes = bytes + bytes_of(list)
      end
    end
    full = max_jobs > 0 and waiting >= max_jobs and 'waiting jobs'
      or max_bytes > 0 and bytes + #message > max_bytes and 'waiting bytes'
    caller = take_caller()
    stem = string.sub(key, 1, #key - #string.match(value, '^%S+'))
    if max_held > 0 and not full then
      local held = string.gsub(stem, 'celery%-task%-meta%-$', 'service:held')
      full = held_bytes(held) >= max_held and 'bytes of results'
    end
  end
  local earlier = idempotency_key ~= '' and redis.call('GET', idempotency_key)
  if earlier then
    if redis.call('EXISTS', stem .. string.match(earlier, '^%S+')) == 0 then
      earlier = false -- that job is forgotten, so its key is free again
    end
  end
  local limit = caller and not earlier and not full and exceeded(caller, #message, stem)
  if earlier then
    answer('earlier', earlier)
  elseif full then
    answer('full', full)
  elseif limit then
    answer('limited', limit)
  elseif record == '' or redis.call('SET', key, record, 'NX', 'EX', ttl) then
    local refused
    for _, destination in ipairs(destinations) do
      -- One that is refused, as by a user's rights, must not take the others with it.
      local command, text, seconds = destination[1], message, tonumber(destination[1])
      if seconds then
        local time = redis.call('TIME')
        local due = time[1] + time[2] / 1000000 + seconds
        command, text = 'LPUSH', string.sub(text, 1, -2) .. string.format(', "due": %.6f}', due)
      end
      local done = redis.pcall(command, destination[2], text)
      refused = refused or type(done) == 'table' and done['err']
    end
    if refused then
      if record ~= '' then redis.call('DEL', key) end
      answer('refused', refused)
    else
      if idempotency_key ~= '' then
        redis.call('SET', idempotency_key, value, 'EX', ttl)
      end
      if caller then
        charge(caller, string.sub(key, #stem + 1), #message)
      end
      local starts = caller and caller.step > 0
      answer('new', starts and string.format('%.6f', caller.whole - caller.now))
    end
  else
    answer('known')
  end
end
return answers
