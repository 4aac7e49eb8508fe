"""The `service` command, for people at a terminal.

    main.py          the click group `service`: turns errors into a sentence and an exit code
    dev.py           `service dev`: reads the options and checks the app before anything starts
    dead_letters.py  `service dead-letters`: list, show, replay, drop
    exit.py          ends a process with a sentence; asgi.py and worker_entry.py begin with it

A command gets its app from Quart's `ScriptInfo`: `service` makes the app by `create_app`, and
`quart --app asgi service …` has it already. Commands that ask Redis are coroutines, which run on
the app's own asyncio clients.

May import every room below; only the entry points import it. No threads.
"""
