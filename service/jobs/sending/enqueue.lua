-- Accept jobs: for each its record and its message in one step, and only if its id is new.
-- Keys are in ARGV, as each job has another number of them; so this script cannot run on a cluster.
-- ARGV: ttl in seconds; then for each job:
--   record's key, record ('' for a message that is not a job), message,
--   count of destinations, for each: command (LPUSH or PUBLISH), key,
--   '' for no conditions, or: how many jobs may wait (0: any number), idempotency key or '',
--     its value ('<id> <fingerprint>'), count of lists in which jobs wait, the lists.
-- Answers {verdict, value} for each job: {'new', ''}, {'known', ''} (its id is), {'full', ''},
--   {'earlier', the idempotency key's value}, {'refused', why Redis refused the message}.
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local ttl = take()
local answers = {}
local function answer(verdict, value)
  answers[#answers + 1] = {verdict, value or ''}
end

while at <= #ARGV do
  local key, record, message = take(), take(), take()
  local destinations = {}
  for _ = 1, tonumber(take()) do
    destinations[#destinations + 1] = {take(), take()}
  end
  local conditions, idempotency_key, value, limit, waiting = take(), '', '', 0, 0
  if conditions ~= '' then
    limit, idempotency_key, value = tonumber(conditions), take(), take()
    for _ = 1, tonumber(take()) do
      waiting = waiting + redis.call('LLEN', take())
    end
  end
  local earlier = idempotency_key ~= '' and redis.call('GET', idempotency_key)
  if earlier then
    local stem = string.sub(key, 1, #key - #string.match(value, '^%S+'))
    if redis.call('EXISTS', stem .. string.match(earlier, '^%S+')) == 0 then
      earlier = false -- that job is forgotten, so its key is free again
    end
  end
  if earlier then
    answer('earlier', earlier)
  elseif limit > 0 and waiting >= limit then
    answer('full')
  elseif record == '' or redis.call('SET', key, record, 'NX', 'EX', ttl) then
    local refused
    for _, destination in ipairs(destinations) do
      -- One that is refused, as by a user's rights, must not take the others with it.
      local done = redis.pcall(destination[1], destination[2], message)
      refused = refused or type(done) == 'table' and done['err']
    end
    if refused then
      if record ~= '' then redis.call('DEL', key) end
      answer('refused', refused)
    else
      if idempotency_key ~= '' then
        redis.call('SET', idempotency_key, value, 'EX', ttl * 2)
      end
      answer('new')
    end
  else
    answer('known')
  end
end
return answers
