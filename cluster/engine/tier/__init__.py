"""The Redis KV tier: KV blocks in Redis as a third level of vLLM's cache, behind its own and the host's.

`manager.py` and `spec.py` are loaded by vLLM inside its processes, everything else is free of vLLM. What must not live
here: the decision what is worth fetching (cluster/core/tier).
"""
