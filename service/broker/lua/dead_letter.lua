-- The record of a message that was given up on; put in front of the scripts that need it.
-- Built here so that its time is the server's and that bytes which are not text pass through.
local function dead_letter(message, queue, reason, deliveries, at)
  return cjson.encode({
    message = message, queue = queue, reason = reason, deliveries = deliveries, at = at
  })
end
