-- KEYS: mark of this publish, list
-- ARGV: message, seconds to remember the publish, seconds until it is due ('' if it is not scheduled)
-- A publish that timed out may have happened: its retry must not add a second copy.
if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then
  local message = ARGV[1]
  if ARGV[3] ~= '' then
    local time = redis.call('TIME')
    local due = time[1] + time[2] / 1000000 + ARGV[3]
    message = string.sub(message, 1, -2) .. string.format(', "due": %.6f}', due)
  end
  redis.call('LPUSH', KEYS[2], message)
  return 1
end
return 0
