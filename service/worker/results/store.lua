-- Store what is known of jobs, but never over the record of one that has ended.
-- KEYS: the records.  ARGV: for each, the new record and its ttl in seconds (0: it lives for ever).
-- Returns for each: 1 if it was stored, 0 if the job, or the attempt that starts, had ended; else why
-- it can't be stored.
local function state_of(key, head)
  -- Every writer puts the state first, so the head is enough, however large the record is.
  if head == '' then
    return nil
  end
  local status = string.match(head, '^{%s*"status"%s*:%s*"(%u+)"')
  if not status then
    local ok, record = pcall(cjson.decode, redis.call('GET', key))
    status = ok and type(record) == 'table' and record['status']
  end
  return status
end

-- Where the marks of a record begin and end: the fields between its state and its task's name, or its
-- result in a record of before. They are the job's owner, its idempotency key, who has cancelled it,
-- and how many attempts were noted. Each later record of the job keeps them.
local function bounds_of_marks(record)
  local first = string.match(record, '^{"status": "%u+", ()')
  local name = first and string.find(record, '"name": ', first, true)
  local result = first and string.find(record, '"result": ', first, true)
  return first, name and result and math.min(name, result) or name or result
end

local function marks_of(key, head)
  if not string.find(head, '^{"status": "%u+", "[oca]') then
    return nil
  end
  local start = redis.call('GETRANGE', key, 0, 4095)
  local first, last = bounds_of_marks(start)
  return last and string.gsub(string.sub(start, first, last - 1), '"unsent": [^,]+, $', '')
end

local function expire(key, ttl)
  if key and ttl ~= '0' then
    redis.pcall('EXPIRE', key, ttl)
  end
end

-- A message that was retried, and whose ack was lost, is delivered again. Its worker reads in the
-- record that this attempt is over, so that must not say STARTED by then. Not so for another call of
-- the job, which was queued at another time.
local function is_over(key, state, record)
  if not state or state == 'QUEUED' or string.sub(record, 1, 20) ~= '{"status": "STARTED"' then
    return false
  end
  local ok, old, new = pcall(function()
    return cjson.decode(redis.call('GET', key)), cjson.decode(record)
  end)
  if not ok or type(old) ~= 'table' or old['queued_at'] ~= new['queued_at'] then
    return false
  end
  local before, now = tonumber(old['retries']), tonumber(new['retries'])
  return before and now and (before > now or (before == now and state == 'RETRY'))
end

local function text(value, limit)
  return type(value) == 'string' and string.sub(value, 1, limit) or nil
end

-- How an attempt ended, by the last record of it.
local function attempt_of(record)
  local result = type(record['result']) == 'table' and record['result'] or {}
  local message = result['exc_message']
  local trace = record['status'] == 'RETRY' and text(record['traceback'], 100000)
  return cjson.encode({
    retries = record['retries'], state = record['status'], worker = text(record['worker'], 255),
    queue = text(record['queue'], 255), started_at = text(record['started_at'], 40),
    ended_at = text(record['ended_at'], 40), due_at = text(record['due_at'], 40),
    type = text(result['exc_type'], 255),
    message = text(type(message) == 'table' and message[1] or message, 1000),
    traceback = trace and string.sub(trace, -8000),
  })
end

-- Note the attempt that the stored record tells of, where the new record is of a later one: a retry,
-- or another run of the same attempt, whose worker has gone. Ten are kept, each with 10 KB at most.
-- A job that ends at its first attempt never comes here.
local function note_attempt(key, state, record, marks, ttl)
  local is_start = string.sub(record, 1, 20) == '{"status": "STARTED"'
  if state ~= 'RETRY' and not (is_start and (state == 'STARTED' or state == 'PROGRESS')) then
    return marks
  end
  local ok, old, new = pcall(function()
    return cjson.decode(redis.call('GET', key)), cjson.decode(record)
  end)
  local prefix, id = string.match(key, '^(.*)celery%-task%-meta%-(.*)$')
  if not (ok and prefix and type(old) == 'table') or old['queued_at'] ~= new['queued_at'] then
    return marks
  end
  local before, now = tonumber(old['retries']), tonumber(new['retries'])
  local is_retry = before and now and before < now
  local is_run_again = is_start and before == now and old['started_at'] ~= new['started_at']
  if not ((is_retry and state == 'RETRY') or (is_run_again and state ~= 'RETRY')) then
    return marks
  end
  local attempts = prefix .. 'service:attempts:' .. id
  redis.pcall('RPUSH', attempts, attempt_of(old)) -- a user's rights may not reach so far
  redis.pcall('LTRIM', attempts, -10, -1)
  expire(attempts, ttl)
  local count = (tonumber(old['attempts']) or 0) + 1
  return string.gsub(marks or '', '"attempts": %d+, ', '') .. '"attempts": ' .. count .. ', '
end

-- A job that its worker's parent process ends, as one that is cancelled, has no start in the record of
-- its end: that process did not start it.
local function with_start(key, record)
  if not string.find(record, '"started_at": null', 1, true) then
    return record
  end
  local old = redis.call('GET', key)
  local ok, decoded = pcall(cjson.decode, old)
  local start = ok and type(decoded) == 'table' and text(decoded['started_at'], 40)
  if not start or not string.match(start, '^[%d:T.+-]+$') then
    return record
  end
  local before, after = string.match(record, '^(.*"queued_at": [^,]+, )"started_at": null(.*)$')
  return before and before .. '"started_at": "' .. start .. '"' .. after or record
end

-- Count the bytes of the records of ended jobs, by the time at which they will have expired, for
-- enqueue.lua to look at. Small ones are not worth it: so the results of most jobs cost nothing here.
local function count_held(key, record, ttl)
  local state = string.match(record, '^{"status": "(%u+)"')
  local prefix = string.match(key, '^(.*)celery%-task%-meta%-')
  if not prefix or not (state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED') then
    return
  end
  local now, width = redis.call('TIME')[1], math.max(60, math.ceil(ttl / 8))
  local gone = string.format('%d', math.ceil((now + ttl) / width) * width)
  redis.call('HINCRBY', prefix .. 'service:held', gone, #record)
  if redis.call('TTL', prefix .. 'service:held') < gone - now then
    redis.call('EXPIREAT', prefix .. 'service:held', gone)
  end
end

local function with_marks(record, marks)
  local first, last = bounds_of_marks(marks and record or '')
  return last and string.sub(record, 1, first - 1) .. marks .. string.sub(record, last) or record
end

local function store(key, record, ttl)
  local head = redis.call('GETRANGE', key, 0, 63)
  local state, marks = state_of(key, head), marks_of(key, head)
  local idempotency = marks and string.match(marks, '"once": "([^"\\]+)"')
  if state == 'REVOKED' and redis.call('TTL', key) > tonumber(ttl) then
    -- It was cancelled while its message waited, and lives for long; a worker has the message now.
    expire(key, ttl)
    expire(idempotency, ttl)
  end
  if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
    record = with_marks(record, marks)
    -- Stored before by the same call: its answer was lost, or it was refused the publish.
    if head == string.sub(record, 1, 64) and redis.call('GET', key) == record then
      redis.call('PUBLISH', key, record)
    end
    return 0
  end
  if is_over(key, state, record) then
    return 0
  end
  if state and state ~= 'QUEUED' then
    marks = note_attempt(key, state, record, marks, ttl)
    if string.find(record, '^{"status": "[FR][AE][IV]') then
      record = with_start(key, record)
    end
  end
  record = with_marks(record, marks)
  expire(idempotency, ttl)
  if marks and string.find(marks, '"attempts": ', 1, true) then
    local prefix, id = string.match(key, '^(.*)celery%-task%-meta%-(.*)$')
    expire(prefix and prefix .. 'service:attempts:' .. id, ttl)
  end
  if ttl == '0' then
    redis.call('SET', key, record)
  else
    redis.call('SET', key, record, 'EX', ttl)
    if #record >= 1024 then
      count_held(key, record, ttl)
    end
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
