-- Store what is known of jobs, but never over the record of one that has ended.
-- KEYS: the records.  ARGV: for each, the new record and its ttl in seconds (0: it lives for ever).
-- Returns for each: 1 if it was stored, 0 if that job had ended, else why it can't be stored.
local function has_ended(key)
  -- Every writer puts the state first, so the head is enough, however large the record is.
  local head = redis.call('GETRANGE', key, 0, 63)
  if head == '' then
    return false
  end
  local status = string.match(head, '^{%s*"status"%s*:%s*"(%u+)"')
  if not status then
    local ok, record = pcall(cjson.decode, redis.call('GET', key))
    status = ok and type(record) == 'table' and record['status']
  end
  return status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED'
end

local function store(key, record, ttl)
  if has_ended(key) then
    return 0
  end
  if ttl == '0' then
    redis.call('SET', key, record)
  else
    redis.call('SET', key, record, 'EX', ttl)
  end
  redis.call('PUBLISH', key, record)
  return 1
end

local outcomes = {}
for i, key in ipairs(KEYS) do
  -- One record that can't be stored must not take the others with it.
  local ok, outcome = pcall(store, key, ARGV[2 * i - 1], ARGV[2 * i])
  if not ok then
    outcome = type(outcome) == 'table' and outcome['err'] or tostring(outcome)
  end
  outcomes[i] = outcome
end
return outcomes
