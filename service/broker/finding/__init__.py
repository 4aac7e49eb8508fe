"""One job's message, for a person who looks at that job.

    message.py   finds the message wherever it lies, and has it be the next one of its queue
    find.lua     looks through the first messages of each place
    hasten.lua   takes a message that waits for its time to the head of its list

This holds Redis up for some milliseconds at most: it looks at the first 2,000 messages of each
place, and no page asks for it more often than its job changes its state. May import messages, and
the keys and scripts of `redis`.
"""
