-- Append lines to the logs of attempts. Drop the beginning of a log that has too many bytes, and the
-- oldest logs where all of them together have.
-- KEYS: the logs by when they expire; their bytes; the logs.
-- ARGV: the bytes of one log; those of all; then for each log its ttl in seconds, how many chunks of
-- lines follow, and these.
-- Returns nothing. The id of an entry is `<bytes until its end>-<its own bytes>`.
local expiring, sizes = KEYS[1], KEYS[2]
local most, most_of_all = tonumber(ARGV[1]), tonumber(ARGV[2])
local TOTAL = '' -- a field of `sizes`: no log has this name
local now = tonumber(redis.call('TIME')[1])
local total = tonumber(redis.call('HGET', sizes, TOTAL) or 0)

local function set_size(log, size)
  total = total + size - (redis.call('HGET', sizes, log) or 0)
  if size > 0 then
    redis.call('HSET', sizes, log, size)
  else
    redis.call('HDEL', sizes, log)
    redis.call('ZREM', expiring, log)
  end
end

local function append(log, ttl, first, count)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local ends = last and tonumber(string.match(last[1], '^%d+')) or 0
  for i = first, first + count - 1 do
    ends = ends + #ARGV[i]
    redis.call('XADD', log, string.format('%d-%d', ends, #ARGV[i]), 'lines', ARGV[i])
  end
  if ends == 0 then
    return -- it had nothing, and nothing came
  end
  local kept = ends
  while ends > most do -- else nothing was ever dropped
    local head = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
    if not head then
      return set_size(log, 0)
    end
    local head_ends, size = string.match(head[1], '^(%d+)-(%d+)$')
    kept = ends - head_ends + size
    if kept <= most then
      break
    end
    redis.call('XDEL', log, head[1])
  end
  redis.call('EXPIRE', log, ttl)
  redis.call('ZADD', expiring, now + ttl, log)
  set_size(log, kept)
end

local longest, at = 0, 3
for i = 3, #KEYS do
  local ttl, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  append(KEYS[i], ttl, at + 2, count)
  at = at + 2 + count
  longest = math.max(longest, ttl)
end
for _, log in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, 1000)) do
  set_size(log, 0)
end
while total > most_of_all do
  local oldest = redis.call('ZRANGE', expiring, 0, 0)[1]
  if not oldest then
    break
  end
  redis.call('DEL', oldest)
  set_size(oldest, 0)
end
redis.call('HSET', sizes, TOTAL, total)
for i = 1, 2 do
  if redis.call('TTL', KEYS[i]) < longest then
    redis.call('EXPIRE', KEYS[i], longest)
  end
end
