"""The ground floor: the only room that makes Redis clients, and that names keys.

clients.py          asyncio and blocking clients for redis://, rediss:// and sentinel:// addresses
keys.py             every key: its name, type, ttl and owner; the map of what lies in Redis
bounded.py          bounds waiting for Redis, and turns its trouble into one error
transient.py        which errors will pass, and which say that nothing was written
script.py           loads a Lua file; runs it by its digest, and whole where Redis does not know it
script_connection.py  one connection of its own that runs scripts, each within a deadline
batcher.py          gathers items while a batch is on its way; the next batch takes them along
compare_and_set.py  changes a record only while it is what it was

Rooms above have their own scripts, each a `.lua` file beside the module that runs it, whose header
lists KEYS, ARGV and answers. This room imports settings and errors, and nothing else of the
package.
"""
