-- KEYS: unacked, unacked_index, sweeps
-- ARGV: lease, seconds that a stock worker may hold a message, seconds that an outage lasts at least,
--       how many entries of the index to pass over (oldest first), how many to look at
-- Answers {1 if there may be more, entries that were looked at and are still in the index, then
-- tag, score and Kombu's record of each delivery whose lease has expired}.
local start, limit = tonumber(ARGV[4]), tonumber(ARGV[5])
local entries = redis.call('ZRANGE', KEYS[2], start, start + limit - 1, 'WITHSCORES')
-- Nothing is held, as in an idle system: no owner needs time. The account below begins with the first
-- sweep that finds something, or goes on from one that is not long ago.
if start == 0 and #entries == 0 then return {0, 0} end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local lease, stock, outage = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

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

-- Leases from the future were renewed before the clock was set back. They count as renewed now, or
-- those of dead workers would not expire before the clock has caught up.
local ahead = redis.call('ZRANGE', KEYS[2], '+inf', now + 1, 'BYSCORE', 'REV', 'LIMIT', 0, limit)
for _, tag in ipairs(ahead) do redis.call('ZADD', KEYS[2], now, tag) end

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

local more, stay, bytes = #ahead == limit, 0, 0
local found = {0, 0}
more = more or #entries == 2 * limit
for i = 1, #entries, 2 do
  local tag, score = entries[i], entries[i + 1]
  if tonumber(score) > now - lease then more = #ahead == limit break end
  if bytes > 1048576 then more = true break end
  stay = stay + 1
  if has_expired(tag, tonumber(score)) then
    local record = redis.call('HGET', KEYS[1], tag)
    if record then
      found[#found + 1] = tag; found[#found + 1] = score; found[#found + 1] = record
      bytes = bytes + #record
    else
      redis.call('ZREM', KEYS[2], tag)
      stay = stay - 1
    end
  end
end
found[1], found[2] = more and 1 or 0, stay
return found
