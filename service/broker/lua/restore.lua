-- KEYS: unacked, unacked_index, list
-- ARGV: tag, highest score at which it may be moved ('+inf': whatever it is), message, LPUSH or RPUSH
-- Answers 1 if the message was moved, 0 if it is held after all or is gone.
return move(ARGV[1], ARGV[2], ARGV[4], KEYS[3], ARGV[3])
