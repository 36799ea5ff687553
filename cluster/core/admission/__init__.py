"""Admission: who waits for a free replica, who goes next, who is told to come back later, and when.

One file a rule: ticket.py (what waits), band.py (fairness between tenants), lane.py (classes and aging), share.py (who
gives way in a full queue), fair_queue.py (the queue they make up), drain_rate.py (Retry-After), deadline.py, hold.py
(waiting for a pool's first replica), retry_budget.py. What must not live here: I/O, clocks, futures
(services/gateway/waiting.py), tenants' limits per minute (cluster/core/quota.py).
"""
