"""The simulator against the real thing: how fast it is, and how near it comes to a running cluster.

What must not live here: the simulator (cluster/simulator), calibrating it (cluster/planner).
"""
