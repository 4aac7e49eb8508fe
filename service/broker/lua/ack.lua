-- KEYS: unacked, unacked_index   ARGV: tags   Answers the tags that were no longer held.
local late = {}
for i = 1, #ARGV do
  redis.call('ZREM', KEYS[2], ARGV[i])
  if redis.call('HDEL', KEYS[1], ARGV[i]) == 0 then late[#late + 1] = ARGV[i] end
end
return late
