-- Take one process's report of the last second; one that comes twice is taken once.
-- KEYS: mark, recent jobs, workers, when they were seen, then the buckets of counts
-- ARGV: rows to keep, their lifetime, the buckets' lifetime, worker's name ('' for none),
--       its status ('' when it leaves), number of rows, the rows as one text,
--       then triples: which bucket (from 1), field, how much to add
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', 60) then return 0 end
local worker, rows = ARGV[4], tonumber(ARGV[6])
if worker ~= '' then
  if ARGV[5] == '' then
    redis.call('HDEL', KEYS[3], worker)
    redis.call('ZREM', KEYS[4], worker)
  else
    local time = redis.call('TIME')
    local now = time[1] + time[2] / 1000000
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - 600)) do
      redis.call('HDEL', KEYS[3], gone)
      redis.call('ZREM', KEYS[4], gone)
    end
    redis.call('HSET', KEYS[3], worker, ARGV[5])
    redis.call('ZADD', KEYS[4], now, worker)
    redis.call('EXPIRE', KEYS[3], 3600)
    redis.call('EXPIRE', KEYS[4], 3600)
  end
end
if rows > 0 then
  -- An entry is [id, {'n', rows up to and with it, 'rows', text}].
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  local total = (last and last[2][2] or 0) + rows
  redis.call('XADD', KEYS[2], '*', 'n', total, 'rows', ARGV[7])
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  while total - oldest[2][2] >= tonumber(ARGV[1]) do
    redis.call('XDEL', KEYS[2], oldest[1])
    oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  end
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
for i = 8, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[4 + ARGV[i]], ARGV[i + 1], ARGV[i + 2])
end
for i = 5, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[3]) end
return 1
