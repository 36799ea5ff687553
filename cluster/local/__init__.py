"""A whole cluster on one machine: up, down, status, logs.

What lives here: processes, ports, the run folder, and what people see while things start. What must not: how a pool
is served (cluster/control, cluster/engine), how requests are routed (services), and command-line parsing (cluster/cli).
"""
