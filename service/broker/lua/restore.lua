-- KEYS: unacked, unacked_index, then a list for each message
-- ARGV: for each message: tag, highest score at which it may be moved ('+inf': whatever it is),
--       message, LPUSH or RPUSH
-- Answers for each 1 if it was moved, 0 if it is held after all or is gone, or why it was refused.
local answers = {}
for i = 3, #KEYS do
  local at = 4 * (i - 3)
  local answer = move(ARGV[at + 1], ARGV[at + 2], ARGV[at + 4], KEYS[i], ARGV[at + 3])
  answers[#answers + 1] = type(answer) == 'table' and answer['err'] or answer
end
return answers
