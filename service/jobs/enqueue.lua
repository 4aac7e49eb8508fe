-- Accept a job: its record and its message in one step, and only if its id is new.
-- KEYS: the record, the queue's list.  ARGV: record, lifetime in seconds, message.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  redis.call('LPUSH', KEYS[2], ARGV[3])
  return 1
end
return 0
