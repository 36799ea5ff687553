"""Which Kubernetes cluster, namespace and release a `longreach k8s` command means.

What must not live here: the commands (k8s.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.kubernetes.api import ClusterApi
    from cluster.state.login import StateServer

DEFAULT_RELEASE = "longreach"
"""The chart's own name."""

NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the release; default: the context's.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig; default: its current.")
]
KubeconfigOption = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Kubeconfig; default: KUBECONFIG, ~/.kube/config, then the pod's own account."),
]
ReleaseOption = Annotated[str, typer.Option("--release", help="Name of the helm release.")]
RedisUrlOption = Annotated[
    str | None, typer.Option("--redis-url", help="The state Redis as it is reached from here.", metavar="URL")
]

RedisPasswordEnvOption = Annotated[
    str | None,
    typer.Option(
        "--redis-password-env", help="Variable with the password for --redis-url: others see arguments.", metavar="NAME"
    ),
]


@contextmanager
def kubernetes(namespace: str | None, context: str | None, kubeconfig: Path | None) -> Iterator[ClusterApi]:
    """The API server that the options mean.

    Raises:
        SetupError: there is none, or its credentials do not do.
    """
    from cluster.environment import read_environment
    from cluster.kubernetes.connection import Target, connected

    target = Target(namespace=namespace, context=context, kubeconfig=kubeconfig)
    with connected(target, read_environment().variables) as api:
        yield api


def in_pod() -> bool:
    """Whether this runs in a pod of the cluster, where names of Services mean something."""
    from cluster.environment import read_environment
    from cluster.kubernetes.connection import POD_VARIABLE

    return POD_VARIABLE in read_environment().variables


def named_redis(url: str | None, password_env: str | None) -> StateServer | None:
    """The server of `--redis-url`; None where it is not given.

    Raises:
        SetupError: the options contradict each other, or the variable is not set.
    """
    from cluster.environment import read_environment
    from cluster.kubernetes.redis_address import named_server

    if url is None:
        if password_env is not None:
            raise typer.BadParameter("--redis-password-env is for --redis-url: give both")
        return None
    return named_server(url, password_env, read_environment().secret)
