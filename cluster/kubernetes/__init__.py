"""Kubernetes as `longreach k8s` sees it: the API, what a cluster has, what a release is doing.

What must not live here: Ray, vLLM (the gateway's image has this package and neither of them), printing (cluster/cli).
"""
