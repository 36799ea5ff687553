"""The folder of one local cluster: what is in it, and where.

What must not live here: what the files mean, beyond their names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError

RUN_DIR_VARIABLE = "LONGREACH_RUN_DIR"
"""Carried by every process of a cluster: `down` knows them by it."""
RUN_VARIABLE = "LONGREACH_CLUSTER_RUN"
"""One value for each `up`."""
SHORT_HOME = Path("/tmp")  # noqa: S108 - not TMPDIR: a socket's path ends at 107 bytes, and the folder below is 0700
PRIVATE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDir:
    """Paths of one cluster; `root` is absolute."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held while `up` or `down` works."""
        return self.root / "lock"

    @property
    def journal(self) -> Path:
        """What `up` has started so far."""
        return self.root / "processes.json"

    @property
    def config(self) -> Path:
        """The configuration in force, with ports filled in and pools left out that did not fit."""
        return self.root / "config.yaml"

    @property
    def deployment(self) -> Path:
        """What the control room and the gateway start from."""
        return self.root / "deployment.json"

    @property
    def credential(self) -> Path:
        """The cluster's secret, between its gateway and its replicas."""
        return self.root / "credential"

    @property
    def gateway_ready(self) -> Path:
        """Written by the gateway when it listens."""
        return self.root / "gateway.json"

    @property
    def logs(self) -> Path:
        """One file a process; kept after `down`, until the next `up`."""
        return self.root / "logs"

    @property
    def valkey(self) -> Path:
        """The configuration of the embedded server for state."""
        return self.root / "valkey"

    @property
    def valkey_cache(self) -> Path:
        """The configuration of the embedded server for KV blocks."""
        return self.root / "valkey-cache"

    @property
    def ray(self) -> Path:
        """Ray's own folder: outside, because its sockets need a short path."""
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:8]
        return SHORT_HOME / f"longreach-{os.getuid()}" / name

    @property
    def drain(self) -> Path:
        """Where replicas look whether their node is to be drained (cluster/engine/drain_folder.py)."""
        return self.root / "drain"

    def log(self, name: str) -> Path:
        """The log of the process called `name`."""
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders, private to this user.

        Raises:
            SetupError: somebody else owns the short folder.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self.root.chmod(PRIVATE)
        for old in self.logs.iterdir():
            old.unlink() if old.is_file() else shutil.rmtree(old)
        home = self.ray.parent
        home.mkdir(mode=PRIVATE, exist_ok=True)
        if home.lstat().st_uid != os.getuid() or home.is_symlink():
            raise SetupError(f"{home} belongs to another user", "remove it, or ask its owner to")
        self.ray.mkdir(mode=PRIVATE, exist_ok=True)

    def clear(self) -> None:
        """Leave the logs and nothing else."""
        for path in (self.config, self.deployment, self.credential, self.gateway_ready, self.journal):
            path.unlink(missing_ok=True)
            path.with_suffix(".partial").unlink(missing_ok=True)
        shutil.rmtree(self.valkey, ignore_errors=True)
        shutil.rmtree(self.valkey_cache, ignore_errors=True)
        shutil.rmtree(self.drain, ignore_errors=True)
        shutil.rmtree(self.ray, ignore_errors=True)
