"""The load client: sends a scenario's sessions to a gateway, and keeps what became of each request.

    coordinator  starts client processes, merges their records, ends the run
    └── worker   one process: an event loop, a transport, a runner
        ├── runner      sessions at their times, open or closed loop
        └── transport   rest.py or rpc.py: one request out, its answer's events timed as their bytes are read

What must not live here: which sessions (scenarios/), sums and plots (report/).
"""
