-- KEYS: unacked, unacked_index, sweeps
-- ARGV: lease, seconds that a stock worker may hold a message, entries to answer at most,
--       seconds that an outage lasts at least, then tags that are known already
-- Answers {tag, score, Kombu's record, ...}: deliveries whose lease has expired, oldest first.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lease, stock = tonumber(ARGV[1]), tonumber(ARGV[2])
local limit, outage, known = tonumber(ARGV[3]), tonumber(ARGV[4]), {}
for i = 5, #ARGV do known[ARGV[i]] = true end

-- All workers sweep many times a lease, and keep one account: when the last sweep was, and since when
-- there was never a long gap between two. After a gap Redis was away or stood still, all workers
-- were frozen, or the clock leapt. Then leases of living workers may look as if they had expired, so
-- these have a full lease to renew them.
local sweeps = redis.call('HMGET', KEYS[3], 'since', 'last')
local since, last = tonumber(sweeps[1]), tonumber(sweeps[2])
if not since or now < last or now - last > outage then since = now end
local account = {'since', string.format('%.6f', since), 'last', string.format('%.6f', now)}
redis.call('HSET', KEYS[3], unpack(account))
redis.call('PEXPIRE', KEYS[3], math.ceil(outage * 1000) + 1000)

local function has_expired(tag, score)
  if not string.find(tag, '@', 1, true) then
    -- A stock worker holds under the message's own tag and never renews: what counts is the
    -- visibility timeout.
    return score <= now - stock
  end
  -- Its holder's lease may be a longer one, as when a deployment changes it.
  local timeout = math.max(lease, tonumber(string.match(tag, '/([%d.]+)$') or 0))
  return score <= now - timeout and since <= now - timeout
end

local found, bytes = {}, 0
local entries = redis.call('ZRANGE', KEYS[2], '-inf', now - lease, 'BYSCORE', 'WITHSCORES')
for i = 1, #entries, 2 do
  local tag, score = entries[i], entries[i + 1]
  if not known[tag] and has_expired(tag, tonumber(score)) then
    local record = redis.call('HGET', KEYS[1], tag)
    if record then
      found[#found + 1] = tag; found[#found + 1] = score; found[#found + 1] = record
      bytes = bytes + #record
      if #found >= 3 * limit or bytes > 4194304 then break end
    else
      redis.call('ZREM', KEYS[2], tag)
    end
  end
end
return found
