-- Take one process's report of the last second; a report that comes twice is taken once.
-- KEYS: mark, recent jobs, workers, when they were seen, then the buckets of counts
-- ARGV: how many events to keep, their TTL, the buckets' TTL, the worker's name ('' for none),
--       its status ('' when it leaves), how many events, the events as one JSON array,
--       then triples: which bucket (from 1), field, how much to add
-- Answers 1; 0 if the report was taken before.
local MARK_TTL = 60 -- seconds, as are all of these
local WORKERS_TTL = 3600
local FORGET_WORKER_AFTER = 600 -- without a report

local mark, recent, workers, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local keep, recent_ttl, bucket_ttl = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local worker, status, count, events = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local FIRST_BUCKET, FIRST_TRIPLE = 5, 8 -- in KEYS and ARGV

local function forget(name)
  redis.call('HDEL', workers, name)
  redis.call('ZREM', seen, name)
end

-- An entry of the stream is [id, {'n', events up to and with it, 'rows', events}].
local function entry(command, from, to)
  local found = redis.call(command, recent, from, to, 'COUNT', 1)[1]
  return found and found[1], found and found[2][2] or 0
end

if not redis.call('SET', mark, '1', 'NX', 'EX', MARK_TTL) then return 0 end
if worker ~= '' and status == '' then
  forget(worker)
elseif worker ~= '' then
  local time = redis.call('TIME')
  local now = time[1] + time[2] / 1000000
  local gone = redis.call('ZRANGEBYSCORE', seen, '-inf', now - FORGET_WORKER_AFTER)
  for _, name in ipairs(gone) do forget(name) end
  redis.call('HSET', workers, worker, status)
  redis.call('ZADD', seen, now, worker)
  redis.call('EXPIRE', workers, WORKERS_TTL)
  redis.call('EXPIRE', seen, WORKERS_TTL)
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
for i = FIRST_TRIPLE, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[FIRST_BUCKET - 1 + ARGV[i]], ARGV[i + 1], ARGV[i + 2])
end
for i = FIRST_BUCKET, #KEYS do redis.call('EXPIRE', KEYS[i], bucket_ttl) end
return 1
