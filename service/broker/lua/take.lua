-- Acknowledge what is finished, then take messages and record them as held, in one step.
--
-- KEYS: unacked, unacked_index, active waiters, wake, then the lists to take from (best first)
-- ARGV: messages wanted, bytes that a message may have (0: any), this waiter's id, waiters that may
--       be active (0: do not wait), seconds that one stays active, seconds of a lease, number of
--       acks, the tags to acknowledge, then for each list the name of its queue
-- Answers: {verdict ('taken', 'active' or 'standby'), late acks, taken = {list, tag, message, ...},
--           unusable = {list, tag, message, reason, ...}}
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
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

local function problem(message)
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
  return nil, tag
end

local taken, unusable, count, bytes = {}, {}, 0, 0
for i = 1, lists do
  local list, queue = KEYS[4 + i], ARGV[tags + acks + i]
  -- A reply of many megabytes would hold up all other clients.
  while count < free and bytes < 4194304 do
    local message = redis.call('RPOP', list)
    if not message then break end
    count, bytes = count + 1, bytes + #message
    local reason, tag = problem(message)
    -- Each delivery is held under a tag of its own: a worker that lost its lease then
    -- acknowledges a tag that is gone, and never what another worker holds. The tag has the lease
    -- in it, for workers whose own is shorter.
    tag = (tag or 'unusable') .. stamp .. count .. '/' .. lease
    -- In Kombu's form, with the queue itself as the address, so that any worker, ours or
    -- stock, puts it back exactly where it was. The message's own bytes are kept.
    redis.call('HSET', unacked, tag, '[' .. message .. ',"",' .. cjson.encode(queue) .. ']')
    redis.call('ZADD', index, now, tag)
    local answer = reason and unusable or taken
    answer[#answer + 1] = i; answer[#answer + 1] = tag; answer[#answer + 1] = message
    if reason then answer[#answer + 1] = reason end
  end
end

local verdict = 'taken'
if count > 0 then
  -- A waiter on standby becomes active in place of this one; more of them where there is more work.
  local wanted = redis.call('ZREM', active, waiter)
  local left = 0
  for i = 1, lists do left = left + redis.call('LLEN', KEYS[4 + i]) end
  wanted = math.max(wanted, math.min(left, 8)) - redis.call('LLEN', wake)
  if max_active > 0 and wanted > 0 then
    for _ = 1, wanted do redis.call('LPUSH', wake, '1') end
    redis.call('EXPIRE', wake, 5)
  end
elseif max_active > 0 then
  redis.call('ZREMRANGEBYSCORE', active, '-inf', now - active_ttl)
  if redis.call('ZSCORE', active, waiter) or redis.call('ZCARD', active) < max_active then
    redis.call('ZADD', active, now, waiter)
    redis.call('EXPIRE', active, math.ceil(active_ttl))
    -- Reading makes the server tell this client (CLIENT TRACKING) when a list changes.
    for i = 1, lists do redis.call('LLEN', KEYS[4 + i]) end
    verdict = 'active'
  else
    verdict = 'standby'
  end
end
return {verdict, late, taken, unusable}
