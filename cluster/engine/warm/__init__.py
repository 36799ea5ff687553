"""Fast start: a warm parent, which has imported vLLM once, forks the processes of its replica's engine.

In reading order: handle.py (the replica's side), parent.py (the parent process), child.py (what it forks), context.py
(what vLLM is given in place of its own), seam.py (where vLLM takes it), environment.py (what a fork cannot change).
docs/decisions/0025-a-warm-parent-in-each-replica.md says why it is so.
"""
