"""Tests by what they start, and within that by the rooms of service/.

unit         nothing is started; also the rules of the house and the seams of other libraries
integration  a real Valkey, and processes where a test of the broker needs them to die
system       real worker and web processes, as their users start them
browser      a real Chromium on a real site
benchmarks   measured by hand, run by nobody else
support      starts and stops all of these, and finds what a test leaves behind

A test of a behaviour that crosses rooms is in the room that promises it. The tests of README.md
and the guides are in no room. `pytest -m quick` runs the unit tests and those that share the
asyncio worker; `pytest -m chaos` the long forms. conftest.py has the servers, the shared worker and
the checks that no test leaves a key without a TTL, a thread or a task.
"""
