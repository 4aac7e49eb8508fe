"""Tells an operator where a running job is: its stack, under each pool that can tell it.

command   hears the question, by Celery's remote control
children  passes it to the child of prefork that runs the job
answer    finds the stacks of a job in this process, and writes them to Redis
frames    the frames of a job that waits on the loop, and of one that runs in a thread

A thread finds the stack, as the main thread goes on with its work. Under asyncio and threads it is
one of the worker; under prefork it is one that the child has for this.
"""
