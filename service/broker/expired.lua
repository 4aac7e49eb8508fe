-- KEYS: unacked, unacked_index
-- ARGV: lease, seconds that a stock worker may hold a message, most entries to answer
-- Answers {tag, score, held record, ...}: what nobody holds any more, oldest first.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lease, stock, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found, bytes = {}, 0
local entries = redis.call('ZRANGE', KEYS[2], '-inf', now - lease, 'BYSCORE', 'WITHSCORES')
for i = 1, #entries, 2 do
  local tag, score = entries[i], entries[i + 1]
  -- A stock worker holds under the message's own tag and never renews: its word is the
  -- visibility timeout, not the lease.
  if string.find(tag, '@', 1, true) or tonumber(score) <= now - stock then
    local held = redis.call('HGET', KEYS[1], tag)
    if held then
      found[#found + 1] = tag; found[#found + 1] = score; found[#found + 1] = held
      bytes = bytes + #held
      if #found >= 3 * most or bytes > 4194304 then break end
    else
      redis.call('ZREM', KEYS[2], tag)
    end
  end
end
return found
