-- Change records, each only if it is what it was.
-- KEYS: the records. ARGV: for each what it has to be now, and what it is to be ('' deletes it).
-- Answers for each 1 if it was so and is changed, else 0.
local answers = {}
for i, key in ipairs(KEYS) do
  local before, after = ARGV[2 * i - 1], ARGV[2 * i]
  if redis.call('GET', key) ~= before then
    answers[i] = 0
  else
    if after == '' then
      redis.call('DEL', key)
    else
      redis.call('SET', key, after, 'KEEPTTL')
    end
    answers[i] = 1
  end
end
return answers
