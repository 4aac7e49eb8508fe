"""Helpers of the tests, in one flat folder: each is imported by its own name, most by many.

process, ports, wait      start a process, find a port, wait for a condition
valkey, tls, web, site    servers: Valkey, TLS before it, the web side, a whole site
refusals                  has a Valkey answer and refuse, in each of its ways
rabbitmq, relay           RabbitMQ, where it is installed; what cuts connections to a server
workers, broker           workers of the sample app; of the fault tests, with their Bench
serving, enqueuing        an app of the test's own that enqueues, for async tests and for others
records, dead             records and dead letters as they lie in Redis
leaks, source             what a test has left behind; the project's own source
supervise                 runs the supervisor of `service dev` on commands of a test's own
*_tasks, *_app, noting    tasks and apps that workers load, and the file where tasks take notes
stock_worker              a Celery app without anything of this project's
"""
