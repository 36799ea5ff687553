"""One release of the chart: its objects, and what they say together.

What must not live here: checks (cluster/kubernetes/doctor), printing.
"""
