-- KEYS: the lists of a queue
-- Answers the ISO times at which the first message of each was enqueued, where it says so. The
-- messages stay here: they may be large. The first `"queued_at"` is that of the headers.
local found = {}
for _, list in ipairs(KEYS) do
  local message = redis.pcall('LINDEX', list, -1)
  local place = type(message) == 'string' and string.find(message, '"queued_at"', 1, true)
  local at = place and string.match(message, '^"queued_at"%s*:%s*"([^"]+)"', place)
  if at then found[#found + 1] = at end
end
return found
