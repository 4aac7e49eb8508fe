-- Forgets deliveries; answers the tags among them that were no longer held.
local function forget(unacked, index, tags)
  local late = {}
  if #tags > 0 and redis.call('ZREM', index, unpack(tags)) == #tags then
    redis.call('HDEL', unacked, unpack(tags)) -- all were held, as nearly always
    return late
  end
  for _, tag in ipairs(tags) do
    if redis.call('HDEL', unacked, tag) == 0 then late[#late + 1] = tag end
  end
  return late
end
