"""Asks Redis at start whether it will keep what it is given.

    findings.py  a table: what can be wrong, whether to refuse to start, and what to change
    rights.py    tries commands and channels
    startup.py   asks Redis, and refuses to start or warns

Before the web side serves, and in each worker process, `init_checks` asks both servers for INFO and
CONFIG, tries the commands that the broker's scripts call on a scratch key, and subscribes to the
channels that are used: a right that is missing would else be missed when a worker dies.
`service dev` calls `inspect_redis` by itself.

May import the rooms redis and settings; nothing else of the broker imports it. No threads of its
own: an asyncio app waits for it in a thread of asyncio.
"""
