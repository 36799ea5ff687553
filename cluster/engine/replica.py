"""The Ray Serve deployment of a pool: one engine, its application on the replica's own port, its lease.

The life of a replica, in order: reap orphans, load the engine, make one token, find the own port, hold a lease while
steps advance, mark it when Serve drains, give everything up when steps stop. What must not live here: vLLM
(cluster/engine/vllm_engine.py), the judgement of life and death (cluster/core/liveness.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import nullcontext
from functools import partial
from http import HTTPStatus
from pathlib import Path

import aiohttp
from ray import serve

from cluster.core.errors import EngineStalledError
from cluster.core.lease import LEASE_RENEW_S, Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaState
from cluster.core.liveness import Health
from cluster.core.start import StartStage, start_words
from cluster.engine import orphans
from cluster.engine.arguments import engine_environment
from cluster.engine.arrival import settled
from cluster.engine.drain_folder import ReplicaDrain
from cluster.engine.gate import Gate
from cluster.engine.heartbeat import Heartbeat
from cluster.engine.layer import EngineLayer
from cluster.engine.order import ReplicaOrder
from cluster.engine.output import lose_what_has_no_room
from cluster.engine.plan import ReplicaPlan
from cluster.engine.residency.opening import ReplicaResidency
from cluster.engine.seal import bind_handle_server_to_loopback
from cluster.engine.serve_log import kept_serve_log
from cluster.engine.start_clock import StartClock, process_age_s
from cluster.engine.vitals import Vitals
from cluster.engine.vllm_engine import VllmEngine, start_engine
from cluster.engine.warm.collecting import without_collections
from cluster.engine.warm.seam import start_warm_parent
from cluster.engine.yielding import stop as stop_yielding
from cluster.engine.yielding import yielding
from cluster.environment import CREDENTIAL_VARIABLE, read_environment
from cluster.tasks import end_tasks

log = logging.getLogger("longreach.engine")
RUN_DIR_VARIABLE = "LONGREACH_RUN_DIR"
"""Set by local mode: where logs go."""
PORT_POLL_S = 0.1
"""Serve's own loop; it takes less than a second to list a replica whose engine is ready."""
PROBE_TIMEOUT_S = 2.0
"""The replica's own routes answer in milliseconds; a drain must be seen within a second."""


@serve.ingress()
class EngineReplica:
    """One vLLM engine behind its own port."""

    async def __init__(self, wanted: ReplicaPlan | ReplicaOrder) -> None:  # type: ignore[misc] # Serve awaits it
        self._start_clock = StartClock(age_s=process_age_s())
        self._start_clock.ends(StartStage.PROCESS)
        bind_handle_server_to_loopback()
        context = serve.get_replica_context()
        self._replica_id = ReplicaId(context.replica_id.unique_id)
        pool = wanted.pool if isinstance(wanted, ReplicaPlan) else wanted.pool_name
        _redirect_output(pool, self._replica_id)
        _log_to_stderr()
        environment = read_environment()
        self._ray_cluster = environment.ray_cluster
        self._drain = ReplicaDrain(environment.drain_dir, self._replica_id)
        node = _node_address()
        self._heart = Heartbeat(
            state=wanted.state,
            cluster=wanted.cluster,
            replica_id=self._replica_id,
            pool=PoolName(pool),
            node=node,
            start=self._start_clock,
        )
        try:
            if isinstance(wanted, ReplicaOrder):
                await self._heart.report(ReplicaPhase.LOADING, f"bringing the model to {node}")
                settle = partial(wanted.settle, environment)
                wanted = await settled(settle, partial(self._heart.report, ReplicaPhase.LOADING))
                self._start_clock.ends(StartStage.MODEL)
            self._plan = wanted
            self._host = node if wanted.replica_host == "node" else wanted.replica_host
            with kept_serve_log():
                await self._start()
        except BaseException as error:
            await self._heart.report(ReplicaPhase.FAILED, "did not start", error=_short(error))
            raise
        self._told_drain = False
        self._renewal: asyncio.Task[None] | None = None
        self._life = asyncio.create_task(self._live())

    async def _start(self) -> None:
        # Two clusters of one name on one machine differ by their run folder, which is why it is part of the scope.
        scope = f"{self._plan.cluster}@{os.environ.get(RUN_DIR_VARIABLE, '').replace(':', '')}"
        orphans.mark_own_engine(scope)
        os.environ.update(engine_environment(self._plan))
        credential = read_environment().replica_credential
        # The engine's processes inherit the environment and have no use for it.
        os.environ.pop(CREDENTIAL_VARIABLE, None)
        # Its imports run beside this process's own.
        parent = start_warm_parent(self._plan, os.environ)
        reaped = await asyncio.to_thread(orphans.reap_orphans, scope)
        if reaped:
            log.warning("replica=%s ended orphaned engine processes %s", self._replica_id, reaped)
        await self._heart.report(ReplicaPhase.IMPORTING, "importing vLLM")
        with without_collections() if self._plan.fast_start else nullcontext():
            await asyncio.to_thread(yielding, _import_vllm)
        self._start_clock.ends(StartStage.IMPORTS)
        await self._heart.report(ReplicaPhase.LOADING, f"loading {self._plan.model} on {self._plan.accelerator}")
        self._residency = ReplicaResidency(self._plan, self._replica_id)
        self._residency.prepare()
        self._engine: VllmEngine = await start_engine(
            self._plan,
            sockets=self._residency.sockets,
            prompts=self._residency.prompts,
            parent=parent,
            clock=self._start_clock,
        )
        _log_to_stderr()  # vLLM has set logging up for itself
        await self._heart.report(ReplicaPhase.PROBING, "making a first token")
        await self._engine.probe()
        engine = await asyncio.to_thread(orphans.engine_processes)
        stop_yielding(process.pid for process in engine)
        self._start_clock.ends(StartStage.PROBE)
        await self._residency.start(self._engine.kv_groups, self._engine.tier)
        self._gate = Gate(engine_is_dead=lambda: self._engine.is_dead, max_requests=self._plan.max_requests)
        self._vitals = Vitals(
            ping=self._engine.ping,
            processes=[process for process in engine if orphans.runs_engine(process)],
            stall_s=self._plan.stall_s,
        )
        self._layer = EngineLayer(self._engine.app, self._gate, credential=credential)

    def __serve_build_asgi_app__(self) -> EngineLayer:
        """Give Serve the application of this replica's port."""
        return self._layer

    async def check_health(self) -> None:
        """Tell Serve whether to replace this replica.

        Raises:
            EngineStalledError: its engine does not step any more.
        """
        reason = self._gate.broken_reason
        if reason is not None:
            raise EngineStalledError(reason)

    async def _live(self) -> None:
        try:
            port = await self._own_port()
            url = f"http://{self._host}:{port}"
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)) as session:
                await self._until_answering(session, f"{url}/{self._plan.pool}/health")
                self._engine.meter.startup_s = self._heart.age_s
                self._start_clock.ends(StartStage.PORT)
                log.info("replica=%s started in %s", self._replica_id, start_words(self._start_clock.stages))
                await self._heart.report(ReplicaPhase.SERVING, url)
                await self._hold_lease(session, url)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("replica=%s stopped looking after its lease", self._replica_id)
            await self._give_up(_short(error))

    async def _until_answering(self, session: aiohttp.ClientSession, url: str) -> None:
        while True:
            if await _status(session, url) == HTTPStatus.OK:
                return
            await asyncio.sleep(PORT_POLL_S)

    async def _own_port(self) -> int:
        while True:
            port = await asyncio.to_thread(find_port, self._replica_id)
            if port is not None:
                return port
            await asyncio.sleep(PORT_POLL_S)

    async def _hold_lease(self, session: aiohttp.ClientSession, url: str) -> None:
        # Before the first look at the wish: whoever asks from now on finds this replica, and who asked before is seen.
        self._drain.tell(is_draining=self._gate.draining, in_flight=self._gate.in_flight)
        while True:
            tick = asyncio.create_task(asyncio.sleep(LEASE_RENEW_S))
            try:
                verdict = await self._vitals.look()
            except Exception as error:  # noqa: BLE001 - whatever the engine's client raises means the engine is gone
                await self._give_up(_short(error))
                return
            if verdict.health is Health.STALLED:
                await self._give_up(verdict.reason)
                return
            if not self._gate.draining and (self._drain.is_asked() or await _is_stopping(session, url)):
                self._gate.draining = True
                log.info("replica=%s drains, %d requests in flight", self._replica_id, self._gate.in_flight)
            self._drain.tell(is_draining=self._gate.draining, in_flight=self._gate.in_flight)
            # A state store that hangs must not slow the look at the engine: one renewal at a time, and none awaited.
            if self._renewal is None or self._renewal.done():
                if self._renewal is not None and (fault := self._renewal.exception()) is not None:
                    log.error("replica=%s cannot renew its lease", self._replica_id, exc_info=fault)
                self._renewal = asyncio.create_task(self._speak(url))
            await tick

    async def _speak(self, url: str) -> None:
        if self._gate.draining and not self._told_drain:
            self._told_drain = True
            await self._heart.report(ReplicaPhase.DRAINING, f"{self._gate.in_flight} requests in flight")
        await self._heart.renew(self._lease(url))

    async def _withdraw(self) -> None:
        """Take the lease back; a renewal under way would bring it back to life."""
        if self._renewal is not None:
            await end_tasks([self._renewal])
        await self._heart.withdraw()

    def _lease(self, url: str) -> Lease:
        load = self._engine.load
        busy = self._gate.in_flight > 0
        return Lease(
            replica_id=self._replica_id,
            pool=PoolName(self._plan.pool),
            model=self._plan.model,
            url=f"{url}/{self._plan.pool}",
            state=ReplicaState.DRAINING if self._gate.draining else ReplicaState.READY,
            context_tokens=self._plan.context_tokens,
            # The scheduler reports with its steps, so its last word before idling may still count a finished request.
            running=load.running if busy else 0,
            waiting=load.waiting if busy else 0,
            kv_use_ratio=load.kv_use_ratio,
            step_age_s=self._vitals.step_age_s,
            max_running=self._plan.max_running,
            max_waiting=self._plan.max_queued,
            prefill_tokens=self._engine.prefill_tokens,
            adapters=tuple(name for name, _ in self._plan.lora),
            prefix=self._residency.facts,
            tier=self._engine.tier_terms,
            revision=self._plan.revision,
            ray_cluster=self._ray_cluster,
            work=self._engine.meter.work(resident_tokens=self._residency.resident_tokens).to_dict(),
        )

    async def _give_up(self, reason: str) -> None:
        """Fail what is in flight, leave the routing tables, end the engine; Serve replaces the replica."""
        self._gate.break_off(reason)
        self._drain.leave()
        await asyncio.to_thread(_end_engine)
        await self._withdraw()
        await self._residency.stop()
        await self._heart.report(ReplicaPhase.STALLED, "waiting to be replaced", error=reason)

    async def __del__(self) -> None:
        """Serve calls this, and awaits it, once the drain is over."""
        if not hasattr(self, "_life"):
            return
        self._life.cancel()
        self._drain.leave()
        self._vitals.close()
        await self._withdraw()
        await self._residency.stop()
        await self._heart.report(ReplicaPhase.STOPPED, "stopped by Serve")
        await asyncio.to_thread(self._engine.shutdown)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    log.disabled = False


def _end_engine() -> None:
    orphans.end(orphans.engine_processes())


def find_port(replica_id: ReplicaId) -> int | None:
    """The port Serve gave this replica; None until Serve lists it as running."""
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()
    for group in details.get("target_groups", []):
        for target in group.get("targets", []):
            # A target's name is the replica's full id, which ends in its unique part.
            if str(target.get("name", "")).endswith(replica_id):
                return int(target["port"])
    return None


async def _status(session: aiohttp.ClientSession, url: str) -> int | None:
    """The status a GET gets; None when there is no answer in time, which says nothing about a drain."""
    try:
        async with session.get(url) as response:
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return None


async def _is_stopping(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether Serve drains the replica, which nothing else shows."""
    return await _status(session, f"{url}/-/healthz") == HTTPStatus.SERVICE_UNAVAILABLE


def _import_vllm() -> None:
    import vllm.entrypoints.launchers.app
    import vllm.v1.engine.async_llm  # noqa: F401


def _node_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _redirect_output(pool: str, replica_id: ReplicaId) -> None:
    """In local mode, send this process's output and its engine's to one file that `longreach logs POOL` shows."""
    run_dir = os.environ.get(RUN_DIR_VARIABLE)
    if run_dir is None:
        return
    path = Path(run_dir) / "logs" / f"pool-{pool}-{replica_id}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    # Ray has put its own objects in their place, which write to its worker files.
    lose_what_has_no_room()


def _short(error: BaseException) -> str:
    lines = f"{type(error).__name__}: {error}".splitlines()
    return " ".join(lines)[:500]
