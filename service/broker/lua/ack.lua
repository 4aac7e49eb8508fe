-- KEYS: unacked, unacked_index   ARGV: tags   Answers the tags that were no longer held.
return forget(KEYS[1], KEYS[2], ARGV)
