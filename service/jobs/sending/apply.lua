-- Apply the first batch of a committed journal: enqueue.lua, which follows here, takes it as ARGV.
-- KEYS: the journal, the set of committed journals.
-- ARGV: how many batches, 0 or 1, to drop first: the caller has applied them. To apply one again
--   does nothing, as its ids are known.
-- Answers what enqueue.lua does, and nothing where all is applied.
redis.call('LTRIM', KEYS[1], ARGV[1], -1)
local batch = redis.call('LINDEX', KEYS[1], 0)
if not batch then
  redis.call('ZREM', KEYS[2], KEYS[1])
  return {}
end
redis.call('ZADD', KEYS[2], 'XX', redis.call('TIME')[1], KEYS[1])
local ARGV = cmsgpack.unpack(batch)
