"""From a bare Python to an environment that can run Longreach. Standard library only: nothing is installed yet.

What must not live here: anything about clusters and models (`longreach up` does those).
"""
