"""What one caller may have: `SERVICE_LIMITS`, held for every request.

checks.py   counts requests, and what a caller has open in this process; says so in the answers
ledger.py   counts by rates: decides at once, and shares the counts with the other processes
charge.lua  the same counts in Redis, for all processes

A caller is known by its id, or else by its address. Starts, open jobs and their bytes are checked
by enqueue.lua, in the step that accepts a job. Routes ask `conditions` for a start, and `hold` what
costs as long as it is open. The limits themselves are read by `service/settings/limits.py`.
"""
