"""`longreach up`, from nothing to an answer: read `_climb` for the story.

What must not live here: how each step is done (the other modules of this package), how it is ended (teardown.py).
"""

from __future__ import annotations

import socket
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from rich.console import Console

from cluster.config import Config, load_config
from cluster.control.head import address, head_process
from cluster.core.errors import ConfigError, SetupError
from cluster.deployment import Deployment, load_deployment
from cluster.environment import Environment
from cluster.exclusive import HeldError, hold
from cluster.local import interrupt, launch, stores
from cluster.local.client import GatewayClient
from cluster.local.credential import make_credential, with_credential, without_credential
from cluster.local.gateway_ready import grpc_url_of
from cluster.local.journal import Journal, Phase, read_journal
from cluster.local.observe import PoolStatus, phase_of, pool_statuses, scaled_pools
from cluster.local.prepare import prepare, write_config
from cluster.local.rundir import RunDir
from cluster.local.state_view import read_state
from cluster.local.sweep import members
from cluster.local.teardown import tear_down
from cluster.local.watch import PoolWatch
from cluster.sockets import free_port
from cluster.state.login import state_address

RAY_START_TIMEOUT_S = 90.0
"""Seven to fourteen seconds when warm; a cold disk reads its files first."""
GATEWAY_START_TIMEOUT_S = 60.0
POOLS_TIMEOUT_S = 600.0
POLL_S = 0.2
DEFAULT_CONFIG = Path(__file__).with_name("default.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpResult:
    """A running cluster."""

    url: str
    grpc_url: str | None
    """None where the gateway serves no gRPC."""
    model: str
    was_running: bool
    ready_after_s: dict[str, float]
    total_s: float


def run_dir_of(config: Config, environment: Environment) -> RunDir:
    """The run folder of the cluster that `config` names."""
    return RunDir(root=environment.run_dir(config.cluster.name).absolute())


def up(config_path: Path, environment: Environment, console: Console) -> UpResult:
    """Bring the cluster up, or find it running; after a failure or a signal nothing of it is left.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: this machine cannot run it, or another `up` or `down` is at work.
        ModelStoreError: a model cannot be had.
        InterruptedBySignal: Ctrl-C and the like, after everything has been taken down again.
    """
    started = time.monotonic()
    config = load_config(config_path)
    run_dir = run_dir_of(config, environment)
    with exclusively(run_dir, purpose="`longreach up`"), interrupt.raising():
        journal = read_journal(run_dir.journal)
        if journal is not None and _is_running(journal):
            return _join(journal, _Start(config, config_path, run_dir, environment, console, started))
        if journal is not None or members(run_dir.root):
            console.print("An earlier run was not ended properly: cleaning up what it left")
            with interrupt.deferred():
                tear_down(run_dir)
        try:
            return _climb(_Start(config, config_path, run_dir, environment, console, started))
        except BaseException as reason:
            if isinstance(reason, interrupt.InterruptedBySignal):
                console.print("\nInterrupted: stopping what was started")
            with interrupt.deferred():
                tear_down(run_dir)
            raise


def exclusively(run_dir: RunDir, *, purpose: str) -> _Exclusive:
    """The lock of a run folder, as a context manager whose refusal is a SetupError."""
    return _Exclusive(run_dir, purpose)


class _Exclusive:
    def __init__(self, run_dir: RunDir, purpose: str) -> None:
        self._path = run_dir.lock
        self._lock = hold(run_dir.lock, purpose=purpose)

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except HeldError as held:
            raise SetupError(str(held), f"wait until it is done, or end it: kill {held.pid}") from None
        except OSError as error:
            raise SetupError(
                f"{self._path} cannot be written: {error}", "set LONGREACH_STATE to a folder that can"
            ) from error

    def __exit__(self, *details: object) -> None:
        self._lock.__exit__(*details)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Start:
    config: Config
    config_path: Path
    run_dir: RunDir
    environment: Environment
    console: Console
    started: float


def _climb(start: _Start) -> UpResult:
    run_dir, console = start.run_dir, start.console
    run_dir.prepare()
    journal = Journal(
        run=uuid.uuid4().hex, phase=Phase.STARTING, source=str(start.config_path.absolute()), began_s=time.time()
    )
    journal.save(run_dir.journal)
    prepared = prepare(start.config, start.environment, console)
    config = prepared.config
    url = f"http://{config.gateway.host}:{config.gateway.port}"
    journal = replace(journal, url=url, dropped_pools=tuple(need.pool for need in prepared.dropped))
    env = launch.marked(start.environment.variables, run_dir=run_dir, run=journal.run)
    own_state_url, cache_url = None, None
    is_served = any(not pool.is_static for pool in config.pools)
    if is_served and config.redis.state_url is None:
        own_state_url, journal = stores.start_state(env, run_dir=run_dir, journal=journal)
    if config.needs_cache:
        cache_url, journal = stores.start_cache(config, env, run_dir=run_dir, journal=journal)
    # From here on for those who need it: the gateway, and Ray's head, whose environment the replicas inherit.
    env = with_credential(env, make_credential(run_dir.credential, start.environment.replica_credential))
    write_config(config, run_dir.config, origin=str(start.config_path))
    deployment = Deployment(
        config_path=str(run_dir.config), state_url=own_state_url, model_folders=prepared.folders, cache_url=cache_url
    )
    deployment.save(run_dir.deployment)
    state = state_address(config.redis, start.environment.secret, own=own_state_url)
    if is_served:
        journal = _start_ray(config, env, run_dir, journal, console)
    journal = _start_gateway(config, env, run_dir, journal)

    watch = PoolWatch(
        look=lambda: _look(config, state, run_dir, journal), console=console, url=url, started=start.started
    )
    if is_served:
        console.print(
            "Starting the pools: about a minute for the first, less for the next (`longreach logs POOL`)",
            soft_wrap=True,
        )
    watch.until_ready(timeout_s=POOLS_TIMEOUT_S)
    journal = replace(journal, phase=Phase.RUNNING)
    journal.save(run_dir.journal)
    return UpResult(
        url=url,
        grpc_url=grpc_url_of(run_dir),
        model=config.models[0].id,
        was_running=False,
        ready_after_s=watch.ready_after_s,
        total_s=time.monotonic() - start.started,
    )


def _start_ray(config: Config, env: dict[str, str], run_dir: RunDir, journal: Journal, console: Console) -> Journal:
    console.print("Starting Ray: about 10 s")
    ray_port = config.cluster.ray_port
    spec = head_process(config, temp_dir=run_dir.ray, ray_port=ray_port, client_port=free_port(), base_env=env)
    journal = launch.start("ray", spec.argv, spec.env, run_dir=run_dir, journal=journal, is_yielding=True)
    deadline = time.monotonic() + RAY_START_TIMEOUT_S
    while not _accepts(ray_port):
        launch.require_alive("ray", run_dir=run_dir, journal=journal)
        if time.monotonic() > deadline:
            raise SetupError(f"Ray did not start within {RAY_START_TIMEOUT_S:.0f} s", "longreach logs ray")
        time.sleep(POLL_S)
    argv = (sys.executable, "-m", "cluster.control.apply", str(run_dir.deployment))
    env = {**without_credential(spec.env), "RAY_ADDRESS": address(ray_port)}
    return launch.start("apply", argv, env, run_dir=run_dir, journal=journal)


def _start_gateway(config: Config, env: dict[str, str], run_dir: RunDir, journal: Journal) -> Journal:
    argv = (
        sys.executable,
        *("-m", "services.gateway"),
        *("--config", str(run_dir.config)),
        *("--deployment", str(run_dir.deployment)),
        *("--ready-file", str(run_dir.gateway_ready)),
    )
    journal = launch.start("gateway", argv, env, run_dir=run_dir, journal=journal)
    deadline = time.monotonic() + GATEWAY_START_TIMEOUT_S
    while not run_dir.gateway_ready.exists():
        launch.require_alive("gateway", run_dir=run_dir, journal=journal)
        if time.monotonic() > deadline:
            raise SetupError(
                f"the gateway did not listen on {config.gateway.host}:{config.gateway.port} within "
                f"{GATEWAY_START_TIMEOUT_S:.0f} s",
                "longreach logs gateway",
            )
        time.sleep(POLL_S)
    return journal


def _look(config: Config, state: str | None, run_dir: RunDir, journal: Journal) -> tuple[PoolStatus, ...]:
    for name in (*sorted(stores.STORES), "ray", "gateway"):
        launch.require_alive(name, run_dir=run_dir, journal=journal)
    _require_not_failed("apply", run_dir, journal)
    return pool_statuses(config, read_state(state, config.cluster.name, scaled_pools(config)).since(journal.began_s))


def _require_not_failed(name: str, run_dir: RunDir, journal: Journal) -> None:
    """A process that ends when it is done must have ended well."""
    entry = journal.process(name)
    if entry is None or entry.is_alive():
        return
    try:
        status = psutil.Process(entry.pid).wait(timeout=0)
    except psutil.Error:
        return  # already collected, and judged then
    if status:
        log = run_dir.log(name)
        raise SetupError(f"the pools could not be submitted:\n{launch.log_tail(log)}", f"the whole log is {log}")


def _is_running(journal: Journal) -> bool:
    return journal.phase is Phase.RUNNING and phase_of(journal) == Phase.RUNNING


def _join(journal: Journal, start: _Start) -> UpResult:
    run_dir, console = start.run_dir, start.console
    client = GatewayClient(journal.url)
    healthy = client.is_healthy()
    client.close()
    if not healthy:
        raise SetupError(
            f"the cluster runs and its gateway at {journal.url} does not answer",
            "look with `longreach status` and `longreach logs gateway`, or start over: longreach down, longreach up",
        )
    console.print(f"Already running at {journal.url}/v1")
    if journal.source != str(start.config_path.absolute()):
        console.print(f"  with {journal.source}, not {start.config_path}: `longreach down` first, to change that")
    try:
        config = load_config(run_dir.config)
    except ConfigError as error:
        raise SetupError(f"{run_dir.config} was changed by hand: {error}", "longreach down, longreach up") from error
    env = launch.marked(start.environment.variables, run_dir=run_dir, run=journal.run)
    deployment = load_deployment(run_dir.deployment)
    if stores.revive_cache(config, deployment, env, run_dir=run_dir, journal=journal) is not None:
        console.print("The server for KV blocks had ended: started again, empty")
    total_s = time.monotonic() - start.started
    return UpResult(
        url=journal.url,
        grpc_url=grpc_url_of(run_dir),
        model=config.models[0].id,
        was_running=True,
        ready_after_s={},
        total_s=total_s,
    )


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False
