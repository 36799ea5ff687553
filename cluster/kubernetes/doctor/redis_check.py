"""Whether Redis answers, from where this runs.

What must not live here: what is in it (cluster/state).
"""

from __future__ import annotations

from pathlib import Path

from cluster.kubernetes.doctor.finding import Finding, error, fine, note, warning
from cluster.kubernetes.redis_address import READABLE_REMEDY, is_cluster_name, is_readable, shown
from cluster.state.login import CA_OPTION, StateServer

CONNECT_TIMEOUT_S = 3.0
"""A server in the same cluster connects in milliseconds; a packet a NetworkPolicy drops never does."""


def check_redis(server: StateServer, what: str, *, namespace: str, in_cluster: bool) -> Finding:
    """One server.

    Args:
        server: its address and login; the password is never shown.
        what: `state` or `cache`, for the finding.
        namespace: of the release.
        in_cluster: whether this runs in a pod, where names of Services and paths of the configuration mean something.
    """
    from redis import Redis
    from redis.exceptions import RedisError

    if not is_readable(server.url):
        return error("redis", f"the address of {what} cannot be read", READABLE_REMEDY)
    where = shown(server.url)
    if not in_cluster and is_cluster_name(server.url, namespace):
        return note(
            "redis",
            f"{what} at {where} has a name of the cluster's own, so it cannot be reached from here",
            "kubectl port-forward its Service and give --redis-url redis://127.0.0.1:6379: that tells whether it runs, "
            "and goes past NetworkPolicies",
        )
    ca_file = server.client_options().get(CA_OPTION)
    if not in_cluster and ca_file is not None and not Path(ca_file).is_file():
        return note(
            "redis",
            f"{what} at {where} was not tried: its CA, {ca_file}, is a file of the pods, and not here",
            "run this in a pod of the release, or put the CA at that path",
        )
    try:
        client = Redis.from_url(
            server.url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=CONNECT_TIMEOUT_S,
            **server.client_options(),
        )
        try:
            client.ping()
        finally:
            client.close()
    except (RedisError, OSError, ValueError) as fault:
        return _fault(fault, f"{what} at {where}")
    return fine("redis", f"{what} at {where} answers")


def _fault(fault: Exception, server: str) -> Finding:
    from redis.exceptions import AuthenticationError, ResponseError

    said = str(fault) or type(fault).__name__
    if isinstance(fault, AuthenticationError) or "NOAUTH" in said or "WRONGPASS" in said:
        return note("redis", f"{server} is reached, and wants a password: {said}", _PASSWORD)
    if isinstance(fault, ResponseError):
        return warning("redis", f"{server} answers with an error: {said}", "look at its log")
    if isinstance(fault, ValueError):
        return error("redis", f"{server} cannot be used: {said}", "write redis://HOST:6379/0")
    return error("redis", f"{server} cannot be reached: {said}", _remedy(said))


_PASSWORD = "name its variable with --redis-password-env; replicas and gateways take theirs from their Secret"  # noqa: S105


def _remedy(fault: str) -> str:
    text = fault.lower()
    if "timed out" in text or "timeout" in text:
        return (
            "nothing answers at all: a NetworkPolicy (of this chart, of Redis' namespace, or a default-deny) drops the "
            "packets, or the address is wrong. Allow this pod's labels to that port: the chart lets in gateway, "
            "ray-head and ray-worker only"
        )
    if "refused" in text:
        return "the host is there and nothing listens on the port: is the Redis pod ready, and the port right?"
    if "certificate" in text or "ssl" in text:
        return "give its CA to the release (redis.*_ca_file), or use redis:// where the server speaks no TLS"
    if "name or service" in text or "resolution" in text or "not known" in text or "nodename" in text:
        return "the name does not resolve here: check it, and that NetworkPolicies let DNS (port 53) out"
    return "check the address, the pod's state and NetworkPolicies between here and there"
