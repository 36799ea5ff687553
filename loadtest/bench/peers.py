"""Other projects' routers: finding or installing them, and how each is started in front of two engines.

They run as they come, with access logs off and no authentication. What must not live here: measuring.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cluster.sockets import free_port
from loadtest.bench.processes import start
from loadtest.bench.routers import Place, Serving
from loadtest.own_environment import make_environment

INSTALL_TIMEOUT_S = 600
"""The packages are some 30 MB with what they need; a slow line takes minutes."""
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"
"""Debian has servers there, and users do not have it in their path."""
BODY_MB_MAX = 64
UPSTREAM_IDLE_CONNECTIONS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A router that cannot be had here, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A router from the Python package index."""

    requirement: str
    program: str
    arguments: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """The environment's folder: one for each version."""
        return self.requirement.replace("==", "-")


PACKAGES = {
    "vllm-router": Package(
        requirement="vllm-router==0.1.17",
        program="vllm-router",
        arguments=("--policy", "round_robin", "--log-level", "warning"),
    ),
    "sglang-router": Package(
        requirement="sglang-router==0.3.2",
        program="smg",
        arguments=("launch", "--policy", "round_robin", "--log-level", "warn"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A router of another project that is here."""

    name: str
    command: Callable[[Place, int], Sequence[str | Path]]
    """Writes what it needs into the place's folder; the command line that listens on a port."""

    def start(self, place: Place) -> Serving:
        """Start it; the first request tells when it serves."""
        port = free_port()
        started = start(
            self.command(place, port),
            core=place.core,
            log=place.folder / "router.log",
            env=place.variables,
            cwd=place.folder,
        )
        return Serving(started=started, port=port)


def find_peer(name: str, *, cache: Path, variables: Mapping[str, str], say: Callable[[str], None]) -> Peer | Missing:
    """A peer by its name, installed into an environment below `cache` where it is a package.

    Args:
        name: one of `PEERS`.
        cache: folder for environments; an installation is kept.
        variables: the environment, for PATH and for pip.
        say: told before what takes long.
    """
    if name in PACKAGES:
        return _package_peer(name, PACKAGES[name], cache=cache, variables=variables, say=say)
    if name not in SERVERS:
        return Missing(name=name, why=f"unknown; known are {', '.join(PEERS)}")
    program = shutil.which(name, path=f"{variables.get('PATH', '')}:{SYSTEM_FOLDERS}")
    if program is None:
        return Missing(name=name, why=f"not installed (Debian: apt install {name})")
    write_config = SERVERS[name]
    return Peer(name=name, command=lambda place, port: write_config(program, place, port))


def _package_peer(
    name: str, package: Package, *, cache: Path, variables: Mapping[str, str], say: Callable[[str], None]
) -> Peer | Missing:
    environment = cache / package.folder_name
    program = environment / "bin" / package.program
    if not program.exists():
        say(f"installing {package.requirement} into an environment of its own")
        why = _install(package, environment, variables)
        if why is not None:
            shutil.rmtree(environment, ignore_errors=True)
            return Missing(name=name, why=why)

    def command(place: Place, port: int) -> list[str | Path]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        return [program, *package.arguments, *where, "--worker-urls", *place.engine_urls]

    return Peer(name=name, command=command)


def _install(package: Package, environment: Path, variables: Mapping[str, str]) -> str | None:
    """Install a package; why that failed, None when it did not."""
    why = make_environment(environment, [package.requirement], variables=variables, timeout_s=INSTALL_TIMEOUT_S)
    if why is None and not (environment / "bin" / package.program).exists():
        return f"{package.requirement} has no program {package.program}"
    return why


def _addresses(place: Place) -> list[str]:
    return [urlsplit(url).netloc for url in place.engine_urls]


def _haproxy(program: str, place: Place, port: int) -> list[str | Path]:
    servers = "".join(f"  server e{number} {address}\n" for number, address in enumerate(_addresses(place)))
    config = place.folder / "haproxy.cfg"
    config.write_text(
        "global\n  maxconn 8192\n  nbthread 1\n"
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 300s\n  timeout server 300s\n"
        "  option http-no-delay\n  http-reuse always\n"
        f"frontend clients\n  bind 127.0.0.1:{port}\n  default_backend engines\n"
        f"backend engines\n  balance leastconn\n{servers}",
        encoding="utf-8",
    )
    return [program, "-db", "-f", config]


def _nginx(program: str, place: Place, port: int) -> list[str | Path]:
    servers = "".join(f"    server {address};\n" for address in _addresses(place))
    paths = "".join(
        f"  {kind}_temp_path {place.folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = place.folder / "nginx.conf"
    config.write_text(
        f"daemon off;\nworker_processes 1;\npid {place.folder / 'nginx.pid'};\nerror_log stderr warn;\n"
        "events { worker_connections 8192; }\n"
        f"http {{\n  access_log off;\n{paths}  client_max_body_size {BODY_MB_MAX}m;\n"
        f"  client_body_buffer_size {BODY_MB_MAX}m;\n  keepalive_requests 1000000000;\n"
        f"  upstream engines {{\n    least_conn;\n{servers}    keepalive {UPSTREAM_IDLE_CONNECTIONS};\n"
        "    keepalive_requests 1000000000;\n  }\n"
        f"  server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://engines;\n"
        '      proxy_http_version 1.1;\n      proxy_set_header Connection "";\n      proxy_buffering off;\n'
        "      proxy_read_timeout 300s;\n    }\n  }\n}\n",
        encoding="utf-8",
    )
    return [program, "-c", config, "-e", "stderr"]


SERVERS: dict[str, Callable[[str, Place, int], list[str | Path]]] = {"haproxy": _haproxy, "nginx": _nginx}
PEERS = (*PACKAGES, *SERVERS)
