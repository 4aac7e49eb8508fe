-- What restoring and burying share; put in front of the scripts that need it.
-- Moves a held message, as `item`, to a list with LPUSH or RPUSH, unless its score is above
-- `highest` ('+inf': whatever it is). Answers 1, 0 if it is held after all or is gone, or why the
-- list refuses it: then it is held as before.
local function move(tag, highest, push, list, item)
  local score = redis.call('ZSCORE', KEYS[2], tag)
  if not score or (highest ~= '+inf' and tonumber(score) > tonumber(highest)) then return 0 end
  redis.call('ZREM', KEYS[2], tag)
  if redis.call('HEXISTS', KEYS[1], tag) == 0 then return 0 end
  -- A full Redis allows this after the ZREM, as it takes no room. A user's rights may forbid it.
  local answer = redis.pcall(push, list, item)
  if type(answer) == 'table' and answer['err'] then
    redis.call('ZADD', KEYS[2], score, tag)
    return answer
  end
  redis.call('HDEL', KEYS[1], tag)
  return 1
end
