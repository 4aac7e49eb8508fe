-- KEYS: dead letters, list, and maybe a result record
-- ARGV: dead letter, message, and maybe the record's value and its seconds to live
-- Answers 1 if the letter was there and its message is queued again, else 0.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if KEYS[3] then redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4]) end
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
