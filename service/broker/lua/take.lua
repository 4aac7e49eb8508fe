-- Acknowledge what is finished, then take messages and record them as held, in one step.
--
-- A job that is scheduled waits in Redis and not in a worker: the sorted set `<list>.scheduled` has
-- the messages of a list that are not due yet, by the server's time at which each will be. A take
-- puts what it finds too early there, and takes from there first what has become due. Nothing is
-- taken from a queue that is in the hash of those that somebody has paused.
--
-- KEYS: unacked, unacked_index, active waiters, wake, then the lists to take from (best first)
-- ARGV: messages wanted, bytes that a message may have (0: any), this waiter's id, waiters that may
--       be active (0: do not wait), seconds that one stays active, seconds of a lease, number of
--       acks, the tags to acknowledge, then for each list the name of its queue
-- Answers: {verdict ('taken', 'active' or 'standby'), late acks, taken = {list, tag, message, ...},
--           unusable = {list, tag, message, reason, ...}, tags of scheduled jobs that are due,
--           milliseconds until the next one is, at most a minute's (-1: none is known)}
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local now_text = string.format('%.6f', now)
local stamp = string.format('@%s%06d-', time[1], time[2])
local unacked, index, active, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lists = #KEYS - 4
local free, max_bytes, waiter = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local max_active, active_ttl, lease = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local acks, tags = tonumber(ARGV[7]), 7

local late = {}
for i = tags + 1, tags + acks do
  redis.call('ZREM', index, ARGV[i])
  if redis.call('HDEL', unacked, ARGV[i]) == 0 then late[#late + 1] = ARGV[i] end
end

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

-- When a message is due, if it is a scheduled job: by its publisher's word to the server, else by
-- the ETA that it had from the publisher's own clock. One that was cancelled is due at once: its
-- worker ends what waits for it.
local function due_at(payload)
  local headers, at = payload['headers'], payload['due']
  if type(headers) ~= 'table' then return nil end
  if type(at) ~= 'number' then
    at = headers['task'] and type(headers['eta']) == 'string' and moment(headers['eta'])
  end
  local is_cancelled = at and type(headers['id']) == 'string'
    and redis.call('EXISTS', unacked .. '_cancelled:' .. headers['id']) == 1
  return is_cancelled and now or at or nil
end

-- Why a message cannot be used, else nothing, its tag, and when it is due.
local function read(message)
  if max_bytes > 0 and #message > max_bytes then
    return 'The message has ' .. #message .. ' bytes; the limit is ' .. max_bytes .. '.'
  end
  local ok, payload = pcall(cjson.decode, message)
  if not ok then
    -- Half of a surrogate pair, or what is nested too deep, is JSON to Python, and the other way
    -- round: so the worker decides, which can say why it cannot read a message.
    local tag = string.match(message, '"delivery_tag"%s*:%s*"([%w-]+)"')
    if tag then return nil, tag end
  end
  if not ok or type(payload) ~= 'table' then return 'The message is not a JSON object.' end
  local properties = payload['properties']
  if type(properties) ~= 'table' then return 'The message has no properties.' end
  local tag = properties['delivery_tag']
  if type(tag) ~= 'string' then return 'The message has no delivery tag.' end
  if not string.match(tag, '^[!-~]+$') then return 'The delivery tag is not printable ASCII.' end
  return nil, tag, due_at(payload)
end

local taken, unusable, due, count, bytes = {}, {}, {}, 0, 0
local scheduled, left, early = {}, 0, 0
for i = 1, lists do scheduled[i] = KEYS[4 + i] .. '.scheduled' end
-- One question for both, so that pausing costs nothing while nobody pauses. As it is read here, the
-- server tells this client of it, too: whoever is active asks again when a queue is resumed.
local pauses, paused = unacked .. '_paused', {}
local any_scheduled = redis.call('EXISTS', pauses, unpack(scheduled)) > 0
local any_paused = any_scheduled and redis.call('EXISTS', pauses) == 1
for i = 1, any_paused and lists or 0 do
  paused[i] = redis.call('HEXISTS', pauses, ARGV[tags + acks + i]) == 1
end
for i = 1, lists do
  local list, queue = KEYS[4 + i], ARGV[tags + acks + i]
  local ripe = 0
  if any_scheduled and not paused[i] then
    ripe = redis.call('ZCOUNT', scheduled[i], '-inf', now_text)
  end
  -- A reply of many megabytes, or a long row of what is too early, would hold up all other clients.
  while not paused[i] and count < free and bytes < 4194304 and early < 100 do
    local message, reason, tag, at
    if ripe > 0 then
      message, ripe = redis.call('ZPOPMIN', scheduled[i])[1], ripe - 1
      reason, tag = read(message)
      at = now
    else
      message = redis.call('RPOP', list)
      if not message then break end
      reason, tag, at = read(message)
    end
    bytes = bytes + #message
    if at and at > now then
      redis.call('ZADD', scheduled[i], string.format('%.6f', at), message)
      any_scheduled, early = true, early + 1
    else
      count = count + 1
      -- Each delivery is held under a tag of its own: a worker that lost its lease then
      -- acknowledges a tag that is gone, and never what another worker holds. The tag has the
      -- lease in it, for workers whose own is shorter.
      tag = (tag or 'unusable') .. stamp .. count .. '/' .. lease
      -- In Kombu's form, with the queue itself as the address, so that any worker, ours or
      -- stock, puts it back exactly where it was. The message's own bytes are kept.
      redis.call('HSET', unacked, tag, '[' .. message .. ',"",' .. cjson.encode(queue) .. ']')
      redis.call('ZADD', index, now, tag)
      local answer = reason and unusable or taken
      answer[#answer + 1] = i; answer[#answer + 1] = tag; answer[#answer + 1] = message
      if reason then answer[#answer + 1] = reason elseif at then due[#due + 1] = tag end
    end
  end
  left = left + ripe
end

local verdict, next_due = 'taken', -1
if count > 0 then
  -- A waiter on standby becomes active in place of this one; more of them where there is more work.
  local wanted = redis.call('ZREM', active, waiter)
  for i = 1, lists do
    if not paused[i] then left = left + redis.call('LLEN', KEYS[4 + i]) end
  end
  wanted = math.max(wanted, math.min(left, 8)) - redis.call('LLEN', wake)
  if max_active > 0 and wanted > 0 then
    for _ = 1, wanted do redis.call('LPUSH', wake, '1') end
    redis.call('EXPIRE', wake, 5)
  end
elseif max_active > 0 and early < 100 then
  redis.call('ZREMRANGEBYSCORE', active, '-inf', now - active_ttl)
  redis.call('ZREMRANGEBYSCORE', active, now + active_ttl, '+inf') -- the clock was set back
  if redis.call('ZSCORE', active, waiter) or redis.call('ZCARD', active) < max_active then
    redis.call('ZADD', active, now, waiter)
    redis.call('EXPIRE', active, math.ceil(active_ttl))
    -- Reading makes the server tell this client (CLIENT TRACKING) when a list changes.
    for i = 1, lists do redis.call('LLEN', KEYS[4 + i]) end
    for i = 1, any_scheduled and lists or 0 do
      local first = not paused[i] and redis.call('ZRANGE', scheduled[i], 0, 0, 'WITHSCORES')[2]
      local wait = first and math.max(0, math.min(60000, math.ceil((first - now) * 1000)))
      if wait and (next_due < 0 or wait < next_due) then next_due = wait end
    end
    verdict = 'active'
  else
    verdict = 'standby'
  end
end
return {verdict, late, taken, unusable, due, next_due}
