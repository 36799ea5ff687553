"""The gateway process: composition root, dispatch, the replicas it knows, upstream connections."""
