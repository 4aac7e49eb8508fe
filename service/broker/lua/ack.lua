-- KEYS: unacked, unacked_index   ARGV: tags   Answers the tags that were no longer held.
local unacked, index, late = KEYS[1], KEYS[2], {}
for i = 1, #ARGV do
  redis.call('ZREM', index, ARGV[i])
  if redis.call('HDEL', unacked, ARGV[i]) == 0 then late[#late + 1] = ARGV[i] end
end
return late
