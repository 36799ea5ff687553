"""What readers choose on top of the pages.

What must not live here: panels.
"""

from cluster.kubernetes.monitoring.panels import OF_POOL, Choice

POOLS = Choice(label="pool", metric="longreach_endpoints")
REPLICAS = Choice(label="replica", metric="vllm:num_requests_running", within=OF_POOL)
TENANTS = Choice(label="tenant", metric="longreach_tenant_requests_total")
