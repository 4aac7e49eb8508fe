-- What restoring and burying share; put in front of the scripts that need it.
-- Moves a held message to a list with LPUSH or RPUSH, unless its score is above
-- `max_score` ('+inf': whatever it is). Answers 1, 0 if it is held after all or is gone, or why the
-- list refuses it: then it is held as before.
local function move(tag, max_score, push, list, message)
  local unacked, index = KEYS[1], KEYS[2]
  local score = redis.call('ZSCORE', index, tag)
  if not score or (max_score ~= '+inf' and tonumber(score) > tonumber(max_score)) then return 0 end
  redis.call('ZREM', index, tag)
  if redis.call('HEXISTS', unacked, tag) == 0 then return 0 end
  -- A full Redis allows this after the ZREM, as it takes no room. A user's rights may forbid it.
  local answer = redis.pcall(push, list, message)
  if type(answer) == 'table' and answer['err'] then
    redis.call('ZADD', index, score, tag)
    return answer
  end
  redis.call('HDEL', unacked, tag)
  return 1
end
