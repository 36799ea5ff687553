"""Which API server, as whom, in which namespace: from options, a kubeconfig, or the pod one runs in.

The order is kubectl's: what was named, `KUBECONFIG`, the user's own file, then the pod's service account. What must not
live here: calls (api.py).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import SetupError
from cluster.kubernetes.api import CONNECT_RETRIES, ClusterApi
from cluster.kubernetes.faults import CredentialsError

KUBECONFIG_VARIABLE = "KUBECONFIG"
POD_VARIABLE = "KUBERNETES_SERVICE_HOST"
"""The kubelet sets it in every container."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_NAMESPACE = "default"
LOGIN_NOTICE_S = 10.0
"""A kubeconfig's log-in program has no time limit: a person may be signing in with it. After this it is said, once,
what is waited for; most programs take a second or two."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the options say; None is what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


@contextmanager
def connected(target: Target, variables: Mapping[str, str]) -> Iterator[ClusterApi]:
    """The API of the cluster that `target` means, for as long as the block runs.

    A kubeconfig's log-in program is waited for without a limit, here and, where what it gave expires, in later calls.

    Args:
        target: of the options.
        variables: the environment.

    Raises:
        SetupError: there is no kubeconfig and no pod, or its content does not do.
        CredentialsError: the pod has no token.
    """
    from kubernetes.client import ApiClient, Configuration
    from urllib3.util.retry import Retry

    configuration = Configuration()
    namespace = _load(target, variables, configuration)
    # What is not named here would be retried with pauses that no timeout bounds.
    configuration.retries = Retry(
        total=CONNECT_RETRIES, connect=CONNECT_RETRIES, read=0, redirect=0, status=0, other=0, raise_on_status=False
    )
    api = ClusterApi(ApiClient(configuration), namespace=target.namespace or namespace)
    try:
        yield api
    finally:
        api.close()


def _load(target: Target, variables: Mapping[str, str], configuration: Any) -> str:
    """Fill `configuration`; the namespace that goes with it."""
    named = str(target.kubeconfig) if target.kubeconfig is not None else variables.get(KUBECONFIG_VARIABLE, "")
    path = named or str(Path(variables.get("HOME", "~")).expanduser() / ".kube" / "config")
    exists = any(Path(part).is_file() for part in path.split(os.pathsep) if part)
    if exists:
        return _from_kubeconfig(path, target, configuration)
    if named:
        raise SetupError(f"there is no kubeconfig at {named}", f"check --kubeconfig and {KUBECONFIG_VARIABLE}")
    if target.context is not None:
        raise SetupError(f"there is no kubeconfig with a context {target.context!r}", "name it with --kubeconfig")
    if variables.get(POD_VARIABLE):
        return _from_pod(variables, configuration, SERVICE_ACCOUNT)
    raise SetupError(
        f"there is no kubeconfig ({path}), and this is not a pod",
        f"name one with --kubeconfig or {KUBECONFIG_VARIABLE}, or run this in the cluster",
    )


def _from_kubeconfig(path: str, target: Target, configuration: Any) -> str:
    import yaml
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

    try:
        # Nothing is persisted: a command that only looks does not rewrite the user's kubeconfig.
        merged = KubeConfigMerger(path).config
        names = [str(entry["name"]) for entry in merged.value.get("contexts") or ()]
        if target.context is not None and target.context not in names:
            raise SetupError(
                f"{path} has no context {target.context!r}", f"it has: {', '.join(sorted(names)) or 'none'}"
            )
        # A log-in program (`exec`) runs here. Where it fails, the client logs why and goes on as nobody, which the API
        # server then refuses.
        loader = KubeConfigLoader(config_dict=merged, active_context=target.context, config_base_path=None)
        with _said_when_slow():
            loader.load_and_set(configuration)
        context = loader.current_context.get("context") or {}
    except ConfigException as error:
        raise SetupError(f"the kubeconfig {path} cannot be used: {error}", "compare `kubectl config view`") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SetupError(f"the kubeconfig {path} cannot be read: {error!r}", "compare `kubectl config view`") from error
    return str(context.get("namespace") or DEFAULT_NAMESPACE)


@contextmanager
def _said_when_slow() -> Iterator[None]:
    notice = threading.Timer(
        LOGIN_NOTICE_S,
        log.warning,
        ["the kubeconfig's log-in program is still running; it is waited for without a limit (Ctrl-C ends it)"],
    )
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


def _from_pod(variables: Mapping[str, str], configuration: Any, folder: Path) -> str:
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    loader = InClusterConfigLoader(
        token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"), environ=dict(variables)
    )
    try:
        loader.load_and_set(configuration)
    except (ConfigException, OSError) as error:
        raise CredentialsError(
            f"this pod has no service-account token: {error}",
            "set automountServiceAccountToken: true and a serviceAccountName with the rights of `longreach k8s rbac`",
        ) from error
    try:
        return (folder / "namespace").read_text(encoding="utf-8").strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE
