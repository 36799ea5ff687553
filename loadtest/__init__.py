"""Load tests: arrivals, workloads, runner, report."""
