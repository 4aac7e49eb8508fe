-- Store how far a job is, unless it has ended.
-- KEYS: the record.  ARGV: the new record, lifetime in seconds (0: for ever).
local stored = redis.call('GET', KEYS[1])
if stored then
  local ok, record = pcall(cjson.decode, stored)
  local status = ok and type(record) == 'table' and record['status']
  if status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED' then
    return 0
  end
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
