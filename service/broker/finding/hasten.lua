-- Put a message that waits for its time at the head of its list, without that time.
-- KEYS: where it lies (a list, or the sorted set beside it), the list
-- ARGV: the message, the message without the time
-- Answers 1, or 0 if it is not there any more.
local kind = redis.call('TYPE', KEYS[1])['ok']
local gone = 0
if kind == 'zset' then
  gone = redis.call('ZREM', KEYS[1], ARGV[1])
elseif kind == 'list' then
  gone = redis.call('LREM', KEYS[1], 1, ARGV[1])
end
if gone == 1 then redis.call('RPUSH', KEYS[2], ARGV[2]) end
return gone
