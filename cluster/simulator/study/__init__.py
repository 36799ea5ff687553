"""Which system does best: many runs of one trace on the same cards.

What must not live here: a run (cluster/simulator), figures of one (cluster/simulator/report).
"""
