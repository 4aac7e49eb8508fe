-- KEYS: unacked, unacked_index, sweeps
-- ARGV: lease, seconds that a stock worker may hold a message, most entries to answer,
--       seconds that an outage lasts at least, then tags that are known already
-- Answers {tag, score, held record, ...}: what nobody holds any more, oldest first.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lease, stock = tonumber(ARGV[1]), tonumber(ARGV[2])
local most, outage, known = tonumber(ARGV[3]), tonumber(ARGV[4]), {}
for i = 5, #ARGV do known[ARGV[i]] = true end

-- All who sweep look in here, many times a lease, and keep one account: when the last one did, and
-- since when there has always been one. If there was none for a while, Redis was away or stood
-- still, everybody was frozen, or the clock leapt. Then leases of the living may look as if they
-- had expired, and have a full lease to be renewed in.
local sweeps = redis.call('HMGET', KEYS[3], 'since', 'last')
local since, last = tonumber(sweeps[1]), tonumber(sweeps[2])
if not since or now < last or now - last > outage then since = now end
local account = {'since', string.format('%.6f', since), 'last', string.format('%.6f', now)}
redis.call('HSET', KEYS[3], unpack(account))
redis.call('PEXPIRE', KEYS[3], math.ceil(outage * 1000) + 1000)

local function has_expired(tag, score)
  if not string.find(tag, '@', 1, true) then
    -- A stock worker holds under the message's own tag and never renews: its word is the
    -- visibility timeout.
    return score <= now - stock
  end
  -- Its holder's lease may be a longer one, as when a deployment changes it.
  local patience = math.max(lease, tonumber(string.match(tag, '/([%d.]+)$') or 0))
  return score <= now - patience and since <= now - patience
end

local found, bytes = {}, 0
local entries = redis.call('ZRANGE', KEYS[2], '-inf', now - lease, 'BYSCORE', 'WITHSCORES')
for i = 1, #entries, 2 do
  local tag, score = entries[i], entries[i + 1]
  if not known[tag] and has_expired(tag, tonumber(score)) then
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
