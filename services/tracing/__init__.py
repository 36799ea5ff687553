"""Traces of requests: recorded under way, built when a request ends, exported beside everything else."""
