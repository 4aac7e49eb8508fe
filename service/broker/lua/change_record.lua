-- KEYS: a result record
-- ARGV: what it has to be now, what it is to be, and its seconds to live; '' stands for no record
-- Answers 1 if it was so and is changed, else 0.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 1
