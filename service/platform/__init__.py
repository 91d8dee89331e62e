"""The ground everything stands on: the database, the clock, ids, paging, logs, traces, Redis."""
