"""When a KV block is worth fetching from Redis, and what it is called there.

What must not live here: sockets, clocks, vLLM (cluster/engine/tier).
"""
