"""The ground floor: the only room that makes Redis clients, and that names keys.

clients.py    asyncio and blocking clients, for each kind of address
cluster.py    their connections to a Redis Cluster: to the node that has the service's hash slot
keys.py       the name of every key; KEYS.md is the map: type, life, owner and meaning of each
deadline.py   bounds waiting, on every Python; many waits by one timer
bounded.py    bounds waiting for Redis, and turns its trouble into one error
countdown.py  carries a countdown to the script that knows the server's clock
cancelled.py  has a cancelled job be taken at once, so that its worker ends what waits for it
transient.py  which errors will pass, and which say that nothing was written
script.py     loads and runs Lua files, also on a connection of their own; compare-and-set
batcher.py    gathers items while a batch is on its way; the next batch takes them along

Rooms above have their own scripts, each a `.lua` file beside the module that runs it, whose header
lists KEYS, ARGV and answers. This room imports settings and errors, and nothing else of the
package.
"""
