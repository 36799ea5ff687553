"""Redis: leases and reports of replicas, and the embedded server."""
