"""Benchmarks of Longreach's own parts: what they cost, next to what else does the same.

What must not live here: load tests of a whole cluster, and anything production imports.
"""
