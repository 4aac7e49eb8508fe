"""The `service` command, for people at a terminal.

    main.py          the click group `service`: turns errors into a sentence and an exit code
    dev.py           `service dev`: reads the options and checks the app before anything starts
    worker.py        `service worker`: several worker processes under one parent
    check.py         `service check`: what is wrong, and what is missing to go public
    health.py        `service health`: answers by itself, without what the others import
    dead_letters.py  `service dead-letters`: list, show, replay, drop
    pauses.py        `service pause`, `service resume`
    queues.py        `service queues`: how much waits in each
    tokens.py        `service tokens`: create, list, revoke
    tasks.py         `service tasks`: what is registered, as a table or as JSON
    folder.py        the app of the folder that a command is run in, or this package's own
    exit.py          ends a process with a sentence; asgi.py and worker_entry.py begin with it

A command gets its app from Quart's `ScriptInfo`: `service` takes that of the folder's
worker_entry.py, or makes one by `create_app`; `quart --app asgi service …` has it already. Commands
that ask Redis are coroutines, which run on the app's own asyncio clients.

May import every room below; only the entry points import it. No threads.
"""
