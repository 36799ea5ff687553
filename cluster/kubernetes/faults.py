"""What can go wrong between a command and the API server.

    SetupError                  (cluster/core/errors.py)
    ├── DeniedError             403: names verb, resource and namespace, and the rule to add
    ├── AbsentError             404: the object, or the whole kind, is not there
    ├── CredentialsError        401, or the API server sees nobody (system:anonymous)
    └── UnreachableError        no answer, or none that a Kubernetes API would give

What must not live here: raising them (api.py, connection.py).
"""

from __future__ import annotations

from cluster.core.errors import SetupError
from cluster.kubernetes.resources import Resource
from cluster.kubernetes.rights import rule_text


class DeniedError(SetupError):
    """The API server knows the caller and does not allow this."""

    def __init__(self, *, verb: str, resource: Resource, namespace: str | None, who: str) -> None:
        self.verb = verb
        self.resource = resource
        self.namespace = namespace
        where = f"in namespace {namespace}" if namespace is not None else "in the whole cluster"
        super().__init__(
            f"{who or 'this user'} may not {verb} {resource.name} {where} (403)",
            f"have a cluster admin add this rule to {rule_text(resource, (verb,), namespace=namespace)}",
        )


class AbsentError(SetupError):
    """What was asked for does not exist."""


class CredentialsError(SetupError):
    """The API server does not know the caller."""


class UnreachableError(SetupError):
    """There is no API server to talk to, or it cannot answer now."""
