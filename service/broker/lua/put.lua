-- KEYS: mark of this publish, list   ARGV: message, seconds to remember the publish
-- A publish that timed out may have happened: its retry must not add a second copy.
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then
  redis.call('LPUSH', KEYS[2], ARGV[1])
  return 1
end
return 0
