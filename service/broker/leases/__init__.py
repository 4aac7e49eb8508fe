"""Holds deliveries for as long as their jobs run, and sees that each ends in one way or another.

    registry.py         leases_of(channel): the leases of this process on a broker; what is still
                        held goes back as the process ends
    leases.py           Leases: holds deliveries, renews their leases, logs a lease that was lost,
                        and is told how a delivery ended
    in_flight.py        the account of all deliveries of the process, in memory
    dispositions.py     tells Redis how they ended: acks, moves back, burials
    recovery.py         sweeps for expired leases of others; moves or buries what it finds
    quarantine.py       bounds how many suspects run at once
    periodic_thread.py  a thread that repeats its work

Threads, each with a connection of its own: `leases` renews and acknowledges; `recovery` puts
messages back, those of other processes too if a worker runs here; `burying` stores FAILUREs, for
which a result backend may block as long as it likes. In the caller's thread only `still_held`,
`defer` and `close` ask Redis.

May import dead_letters (which stores the FAILURE) and what lies beside both rooms.
"""
