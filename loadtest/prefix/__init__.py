"""The bench of prefix caches: a real cluster of two replicas, prompts that share prefixes, what was computed of them.

What must not live here: drawing on a terminal (cluster/cli/bench_frame.py), benches without engines
(loadtest/bench).
"""
