-- Accept jobs: for each its record and its message in one step, and only if its id is new.
-- ARGV: lifetime in seconds; then for each job:
--   record's key, record ('' for a message that is no job), message,
--   count of destinations, for each: command (LPUSH or PUBLISH), key,
--   '' for no terms, or: how many jobs may wait (0: any number), idempotency key or '',
--     its value ('<id> <fingerprint>'), count of lists in which jobs wait, the lists.
-- Answers for each job: 'new', 'known' (its id), 'full', the idempotency key's first value, or
-- {why it cannot be accepted}.
local at = 1
local function take()
  at = at + 1
  return ARGV[at - 1]
end

local lifetime = take()
local answers = {}
while at <= #ARGV do
  local key, record, message = take(), take(), take()
  local destinations = {}
  for _ = 1, tonumber(take()) do
    destinations[#destinations + 1] = {take(), take()}
  end
  local terms, once, value, limit, waiting = take(), '', '', 0, 0
  if terms ~= '' then
    limit, once, value = tonumber(terms), take(), take()
    for _ = 1, tonumber(take()) do
      waiting = waiting + redis.call('LLEN', take())
    end
  end
  local earlier = once ~= '' and redis.call('GET', once)
  if earlier then
    local stem = string.sub(key, 1, #key - #string.match(value, '^%S+'))
    if redis.call('EXISTS', stem .. string.match(earlier, '^%S+')) == 0 then
      earlier = false -- that job is forgotten, so its key is free again
    end
  end
  if earlier then
    answers[#answers + 1] = earlier
  elseif limit > 0 and waiting >= limit then
    answers[#answers + 1] = 'full'
  elseif record == '' or redis.call('SET', key, record, 'NX', 'EX', lifetime) then
    local refused
    for _, destination in ipairs(destinations) do
      -- One that is refused, as by a user's rights, must not take the others with it.
      local answer = redis.pcall(destination[1], destination[2], message)
      refused = refused or type(answer) == 'table' and answer['err']
    end
    if refused then
      if record ~= '' then redis.call('DEL', key) end
      answers[#answers + 1] = {refused}
    else
      if once ~= '' then
        redis.call('SET', once, value, 'EX', lifetime * 2)
      end
      answers[#answers + 1] = 'new'
    end
  else
    answers[#answers + 1] = 'known'
  end
end
return answers
