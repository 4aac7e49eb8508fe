-- Take one process's report of the last second. What a report adds is added once, also when it comes
-- twice; a report of a worker's status alone may be taken again, as it only says it anew.
-- KEYS: mark, recent jobs, workers, when they were seen, groups of failures, when they were seen,
--       then the buckets of counts, the shorter ones first
-- ARGV: how many events to keep, their TTL, the worker's name ('' for none),
--       its status ('' when it leaves), how many events, the events as one JSON array,
--       the failures as a JSON array of groups ('' for none),
--       how many shorter buckets, their TTL, the TTL of the others,
--       then triples: which bucket (from 1), field, how much to add
-- Answers 1; 0 if what it adds was added before.
local MARK_TTL = 60 -- seconds, as is each TTL
local MOST_GROUPS = 200
local FAILURES_TTL = 604800
local SLOTS = 48 -- of a group's counts by half hours
local WORKERS_TTL = 3600
local FORGET_WORKER_AFTER = 600 -- without a report

local mark, recent, workers, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local keep, recent_ttl = tonumber(ARGV[1]), ARGV[2]
local worker, status, count, events = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local groups, groups_seen, failures = KEYS[5], KEYS[6], ARGV[7]
local shorter, shorter_ttl, longer_ttl = tonumber(ARGV[8]), ARGV[9], ARGV[10]
local FIRST_BUCKET, FIRST_TRIPLE = 7, 11 -- in KEYS and ARGV

local function forget(name)
  redis.call('HDEL', workers, name)
  redis.call('ZREM', seen, name)
end

-- An entry of the stream is [id, {'n', events up to and with it, 'rows', events}].
local function entry(command, from, to)
  local found = redis.call(command, recent, from, to, 'COUNT', 1)[1]
  return found and found[1], found and found[2][2] or 0
end

-- Add what a report tells of a group to what is known of it, in place.
local function add_known(group)
  local ok, known = pcall(cjson.decode, redis.call('HGET', groups, group['id']) or '')
  if not ok or type(known) ~= 'table' then return end
  group['count'] = group['count'] + (tonumber(known['count']) or 0)
  group['first'] = math.min(group['first'], tonumber(known['first']) or group['first'])
  local slots, oldest = group['slots'], 0
  for slot in pairs(slots) do oldest = math.max(oldest, tonumber(slot) - SLOTS + 1) end
  for slot, count in pairs(type(known['slots']) == 'table' and known['slots'] or {}) do
    if (tonumber(slot) or 0) >= oldest then slots[slot] = (slots[slot] or 0) + count end
  end
end

-- A status may come twice: only what is added needs the mark. An idle worker adds nothing.
local adds = count > 0 or failures ~= '' or #ARGV >= FIRST_TRIPLE
if adds and not redis.call('SET', mark, '1', 'NX', 'EX', MARK_TTL) then return 0 end
if worker ~= '' and status == '' then
  forget(worker)
elseif worker ~= '' then
  local time = redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  local is_new = redis.call('HSET', workers, worker, status) == 1
  is_new = redis.call('ZADD', seen, now, worker) == 1 or is_new
  -- The rest need not be done with each report: for a new worker, and about once a minute.
  if is_new or time[1] % 60 < 3 then
    local gone = redis.call('ZRANGEBYSCORE', seen, '-inf', now - FORGET_WORKER_AFTER)
    for _, name in ipairs(gone) do forget(name) end
    redis.call('EXPIRE', workers, WORKERS_TTL)
    redis.call('EXPIRE', seen, WORKERS_TTL)
  end
end
if count > 0 then
  local _, total = entry('XREVRANGE', '+', '-')
  total = total + count
  redis.call('XADD', recent, '*', 'n', total, 'rows', events)
  local oldest, number = entry('XRANGE', '-', '+')
  while total - number >= keep do
    redis.call('XDEL', recent, oldest)
    oldest, number = entry('XRANGE', '-', '+')
  end
  redis.call('EXPIRE', recent, recent_ttl)
end
if failures ~= '' then
  for _, group in ipairs(cjson.decode(failures)) do
    add_known(group)
    redis.call('HSET', groups, group['id'], cjson.encode(group))
    redis.call('ZADD', groups_seen, group['last'], group['id'])
  end
  for _, id in ipairs(redis.call('ZRANGE', groups_seen, 0, -MOST_GROUPS - 1)) do
    redis.call('HDEL', groups, id)
    redis.call('ZREM', groups_seen, id)
  end
  redis.call('EXPIRE', groups, FAILURES_TTL)
  redis.call('EXPIRE', groups_seen, FAILURES_TTL)
end
for i = FIRST_TRIPLE, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[FIRST_BUCKET - 1 + ARGV[i]], ARGV[i + 1], ARGV[i + 2])
end
for i = FIRST_BUCKET, #KEYS do
  redis.call('EXPIRE', KEYS[i], i < FIRST_BUCKET + shorter and shorter_ttl or longer_ttl)
end
return 1
