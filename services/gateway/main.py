"""The gateway's composition root: every part is built here, once, and handed what it needs.

What must not live here: behaviour. `run` is what `python -m services.gateway` and `longreach gateway` call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import random
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cluster.config import Config, load_config
from cluster.core.errors import ConfigError, LongreachError, SetupError
from cluster.deployment import Deployment, load_deployment
from cluster.environment import Environment, read_environment, take_parent_token
from cluster.state.answers import AnswerStore
from cluster.state.autoscale import AutoscaleStore
from cluster.state.boundary import BoundaryStore
from cluster.state.kept import KeptReader
from cluster.state.leases import LeaseStore, connect
from cluster.state.login import StateServer, state_server
from cluster.state.residency import ResidencyReader, connect_binary
from services.gateway.access import Access
from services.gateway.assembly import Assembly, Surroundings, assemble
from services.gateway.background import background
from services.gateway.catalog import Catalog
from services.gateway.current import Current
from services.gateway.logs import configure_logging, set_level
from services.gateway.server import GatewayServer, bind_admin
from services.gateway.tls import build_context
from services.gateway.tls import reload as reload_context
from services.gateway.tokenizer_folders import tokenizer_folders
from services.gateway.tokens import PromptCounter
from services.gateway.watching import Contents, FileWatch, contents, watched_files
from services.gateway.workers import run_workers
from services.grpc.server import GrpcServer
from services.http1.listener import Listener, bind, bind_path
from services.tracing.settings import trace_settings
from services.tracing.tracing import sinks_of

logger = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_UNUSABLE = 2
"""The configuration or this machine cannot be used; the reason is on standard error."""
COLLECT_AFTER = 50_000
"""New objects between two looks for garbage in circles; Python's own 700 costs some 3% of the time."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a parent process gives a worker instead of addresses."""

    listen_fd: int
    """A socket that listens already."""
    admin_path: Path
    """Where to serve the admin routes."""
    grpc_port: int | None
    """What all workers serve gRPC on; None where nobody does."""
    parent_token: str | None = field(repr=False)
    """What the parent shows when it asks for counts."""


def run(
    config_path: Path,
    *,
    deployment_path: Path | None = None,
    ready_file: Path | None = None,
    sockets: Sockets | None = None,
    is_watching: bool = False,
) -> int:
    """Run a gateway in this process until it is told to stop.

    Args:
        config_path: the configuration file; SIGHUP reads it again.
        deployment_path: what `longreach up` wrote: the state store's address and the models' folders. Without it
            the configuration's own redis.state_url counts, and static pools need neither.
        ready_file: written as `{"port": …, "pid": …, "admin_port": …, "grpc_port": …}` once connections are accepted,
            removed at the end.
        sockets: of one worker among several; None for a whole gateway.
        is_watching: whether a change of the configuration or TLS files is as good as SIGHUP.

    Returns:
        The process's exit status.
    """
    try:
        # Before it is read: a change that comes between the two is seen later, and not lost.
        seen = contents([config_path])
        config = load_config(config_path)
        deployment = None if deployment_path is None else load_deployment(deployment_path)
        configure_logging(config.telemetry)
        if sockets is None and config.gateway.workers > 1:
            Access(config)  # raises what every worker would raise, once
            return run_workers(config, _arguments(config_path, deployment_path, is_watching=is_watching), ready_file)
        # What is loaded by now stays; requests make no circles, so looking for some 100 times less often is enough.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                _serve(
                    config,
                    deployment,
                    config_path=config_path,
                    deployment_path=deployment_path,
                    ready_file=ready_file,
                    environment=read_environment(),
                    sockets=sockets,
                    seen=seen if is_watching else None,
                )
            )
    except ConfigError as error:
        print(*error.lines(), sep="\n", file=sys.stderr)  # noqa: T201 - the program's own words to its operator
        return EXIT_UNUSABLE
    except LongreachError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return EXIT_UNUSABLE
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m services.gateway`."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description="Run a Longreach gateway.")
    parser.add_argument("--config", type=Path, required=True, help="configuration file")
    parser.add_argument("--deployment", type=Path, help="deployment.json of a running cluster")
    parser.add_argument("--ready-file", type=Path, help="written with port and pid once connections are accepted")
    parser.add_argument("--watch", action="store_true", help="follow the configuration and TLS files")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--admin-socket", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--grpc-port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sockets = None
    if options.listen_fd is not None:
        sockets = Sockets(options.listen_fd, options.admin_socket, options.grpc_port, take_parent_token())
    return run(
        options.config,
        deployment_path=options.deployment,
        ready_file=options.ready_file,
        sockets=sockets,
        is_watching=options.watch,
    )


async def _serve(
    config: Config,
    deployment: Deployment | None,
    *,
    config_path: Path,
    deployment_path: Path | None,
    ready_file: Path | None,
    environment: Environment,
    sockets: Sockets | None,
    seen: Contents | None,
) -> None:
    if seen is not None:
        seen = {**contents(watched_files(config_path, config)), **seen}
    access = Access(config)
    tls = None if config.gateway.tls is None else build_context(config.gateway.tls)
    clients, admins = _listeners(config, sockets)
    current = Current(Catalog(config, environment.secret), environment.secret)
    state = state_server(config.redis, own=None if deployment is None else deployment.state_url)
    if state is not None:
        state.password(environment.secret)  # raises what no connection could do without
    counter = PromptCounter()
    counter.use(tokenizer_folders(config, deployment, environment))
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(state_store(state))
        mostly_waits = await stack.enter_async_context(binary_store(state))
        cluster = config.cluster.name
        autoscale = None if redis is None else AutoscaleStore(redis, cluster)
        traces = trace_settings(config.telemetry.traces, environment, cluster)
        around = Surroundings(
            current=current,
            access=access,
            counter=counter,
            leases=None if redis is None else LeaseStore(redis, config.cluster.name),
            residency=None if mostly_waits is None else ResidencyReader(mostly_waits, cluster),
            kept=None if mostly_waits is None else KeptReader(mostly_waits, cluster),
            asked=autoscale,
            records=autoscale,
            boundaries=None if redis is None else BoundaryStore(redis, cluster),
            kept_answers=None if mostly_waits is None else AnswerStore(mostly_waits, cluster),
            redis=redis,
            usage_folder=environment.run_dir(config.cluster.name) / "usage",
            credential=environment.replica_credential,
            parent_token=None if sockets is None else sockets.parent_token,
            traces=traces,
            sinks=sinks_of(traces, cluster),
            rng=random.Random(),  # noqa: S311 - ties and ids; guards nothing
        )
        parts = assemble(around)
        stack.push_async_callback(parts.close)
        grpc_server = _grpc_server(config, parts, sockets)
        server = GatewayServer(
            Listener(parts.front, parts.limits, clients, tls=tls),
            [Listener(parts.admin, parts.limits, admins)],
            ready_file=ready_file,
            on_drain=parts.gateway.drain,
            drain_s=lambda: current.catalog.config.gateway.limits.drain_s,
            grpc=grpc_server,
            unread=parts.repeats.ended,
        )
        reloads: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            reloaded = current.reload(
                config_path, lambda new: tokenizer_folders(new, _reread(deployment, deployment_path), environment)
            )
            if reloaded is None:
                return
            catalog, folders = reloaded
            set_level(catalog.config.telemetry)
            counter.use(folders)
            parts.reloaded()
            _reload_tls(tls, grpc_server, catalog.config)
            task = asyncio.create_task(access.reload(catalog.config))
            reloads.add(task)
            task.add_done_callback(reloads.discard)
            _warn_of_missing_keys(catalog)

        _warn_of_missing_keys(current.catalog)
        await parts.ready()
        server.listen_to_signals(reload)
        loops = parts.loops if grpc_server is None else (*parts.loops, grpc_server.follow)
        if seen is not None:
            watch = FileWatch(lambda: watched_files(config_path, current.catalog.config), reload, seen=seen)
            loops = (*loops, watch.follow)
        async with background(*loops):
            await server.run()


def _listeners(config: Config, sockets: Sockets | None) -> tuple[socket.socket, socket.socket]:
    """For clients, and for the admin routes."""
    if sockets is None:
        gateway = config.gateway
        return bind(gateway.host, gateway.port), bind_admin(config)
    clients = socket.socket(fileno=sockets.listen_fd)
    clients.setblocking(False)
    return clients, bind_path(sockets.admin_path)


def _grpc_server(config: Config, parts: Assembly, sockets: Sockets | None) -> GrpcServer | None:
    if not config.gateway.grpc.enabled:
        return None
    shared = None if sockets is None else sockets.grpc_port
    return GrpcServer(config.gateway, parts.grpc, parts.gateway.is_ready, shared_port=shared)


def _arguments(config_path: Path, deployment_path: Path | None, *, is_watching: bool) -> list[str]:
    arguments = ["--config", str(config_path.absolute()), *(["--watch"] if is_watching else [])]
    return arguments if deployment_path is None else [*arguments, "--deployment", str(deployment_path.absolute())]


def _reload_tls(context: ssl.SSLContext | None, grpc_server: GrpcServer | None, config: Config) -> None:
    if context is None or config.gateway.tls is None:
        return
    try:
        reload_context(context, config.gateway.tls)
        if grpc_server is not None:
            grpc_server.reload_tls(config.gateway.tls)
    except SetupError as error:
        logger.error("TLS files not reloaded: %s", error.problem)  # noqa: TRY400 - the traceback says nothing more


@contextlib.asynccontextmanager
async def state_store(state: str | StateServer | None) -> AsyncIterator[Redis | None]:
    """A client for the state store, closed at the end; None without an address."""
    if state is None:
        yield None
        return
    redis = connect(state)
    # The client's own retries would hide that the store went away and came back empty.
    redis.set_retry(Retry(NoBackoff(), 0))
    try:
        yield redis
    finally:
        with contextlib.suppress(OSError):
            await redis.aclose()


@contextlib.asynccontextmanager
async def binary_store(state: str | StateServer | None) -> AsyncIterator[Redis | None]:
    """A client for what replicas say of caches, whose connections mostly wait; None without an address."""
    if state is None:
        yield None
        return
    redis = connect_binary(state)
    try:
        yield redis
    finally:
        with contextlib.suppress(OSError):
            await redis.aclose()


def _reread(deployment: Deployment | None, path: Path | None) -> Deployment | None:
    """The deployment as it is now; the one known where the file cannot be read."""
    if path is None:
        return deployment
    try:
        return load_deployment(path)
    except LongreachError:
        logger.exception("deployment not reread")
        return deployment


def _warn_of_missing_keys(catalog: Catalog) -> None:
    for name in catalog.missing_keys():
        logger.warning("environment variable %s is not set: its endpoints are called without a key", name)
