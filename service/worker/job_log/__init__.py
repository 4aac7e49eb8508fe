"""Keeps what a job logs and prints, for operators to read on its page.

    capture     finds the job of each log record and print, from whichever thread they come
    buffer      holds the lines of each attempt until they are written: bounded, without any I/O
    writer      writes them to Redis from a thread of its own
    append.lua  appends to the logs of attempts, and drops the oldest lines and logs

A body never waits for its log, and no job fails by it: a line costs an append to a list. Where
Redis is away for long, lines are dropped, and the log says how many. The thread begins with the
first line, and a job that logs nothing does nothing here.
"""
