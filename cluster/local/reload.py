"""Reading a running cluster's configuration again, and changing what can change under load.

The gateway takes new limits, aliases, output rules, log levels and whole static pools on SIGHUP. Replica counts and
what autoscaling aims at go to Ray Serve, and so do the settings of a pool's engines where that is asked for: Serve then
replaces its replicas one after another. What else an engine is built from waits for a restart, and so does what the
gateway reads once; what waits keeps its running value. What must not live here: how the gateway reloads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.config import Config, PoolSection, load_config
from cluster.control.head import LOOPBACK_ENVIRONMENT, address, serve_environment
from cluster.core.errors import SetupError
from cluster.environment import Environment
from cluster.local import launch
from cluster.local.journal import read_journal
from cluster.local.prepare import write_config
from cluster.local.rundir import RunDir
from cluster.local.up import exclusively

ENGINE_KEYS = frozenset(
    {"model", "context_tokens", "tensor_parallel", "hosts", "accelerator", "worker_group", "engine", "revision"}
)
"""Parts of a pool that its engines are built from."""
SERVE_KEYS = ("autoscaling", "replicas")
"""Parts of a served pool that Ray Serve alone reads; no replica goes because they change."""
ROLLED_KEYS = ("engine",)
"""Parts of a served pool for which Ray Serve replaces its replicas, where that is wanted."""
GATEWAY_POOL_KEYS = ("traffic",)
"""Parts of a served pool that the gateway alone reads."""
ENGINE_MODEL_KEYS = frozenset({"source", "revision", "sampling", "lora", "tool_parser"})
"""Parts of a model that the engines of its served pools are built from; in a static pool they are the gateway's."""
FIXED_SECTIONS = ("cluster", "redis")
FIXED_GATEWAY_KEYS = ("host", "port")
FIXED_TELEMETRY_KEYS = ("log_format", "traces", "metrics")
"""Bound when the gateway starts, as in services/gateway/current.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a reload did; entries are fields, by their dotted name."""

    applied: tuple[str, ...]
    waiting: tuple[str, ...]
    """Changed in the file, in force only after a restart."""


def reload(run_dir: RunDir, source: Path | None, environment: Environment, *, rolls: bool = False) -> Reloaded:
    """Put the file's changes in force.

    Args:
        run_dir: of the running cluster.
        source: the file; None takes the one `up` was given.
        environment: for the processes this may start.
        rolls: replace replicas of pools whose engines have other settings.

    Raises:
        ConfigError: the file has mistakes; nothing was changed.
        SetupError: no cluster runs.
    """
    with exclusively(run_dir, purpose="`longreach config reload`"):
        journal = read_journal(run_dir.journal)
        gateway = journal.process("gateway") if journal else None
        if journal is None or gateway is None or not gateway.is_alive():
            raise SetupError("no cluster is running", "start one with `longreach up`")
        running = load_config(run_dir.config)
        wanted = load_config(source or Path(journal.source))
        merged, result, scales = merge(running, wanted, dropped=frozenset(journal.dropped_pools), rolls=rolls)
        if not result.applied:
            return result
        write_config(merged, run_dir.config, origin=str(source or journal.source))
        os.kill(gateway.pid, signal.SIGHUP)
        if scales:
            env = launch.marked(environment.variables, run_dir=run_dir, run=journal.run)
            env |= serve_environment(merged) | LOOPBACK_ENVIRONMENT
            env["RAY_ADDRESS"] = address(merged.cluster.ray_port)
            argv = (sys.executable, "-m", "cluster.control.apply", str(run_dir.deployment))
            launch.start("apply", argv, env, run_dir=run_dir, journal=journal)
        return result


def merge(
    running: Config, wanted: Config, *, dropped: frozenset[str], rolls: bool = False
) -> tuple[Config, Reloaded, bool]:
    """The configuration to put in force.

    Args:
        running: what is in force.
        wanted: what the file says.
        dropped: pools that this machine had no memory for; they stay away.
        rolls: whether pools take over `ROLLED_KEYS`.

    Returns:
        The new configuration, what changed, and whether Ray Serve has to hear of it.
    """
    applied: list[str] = []
    waiting: list[str] = []
    for section in FIXED_SECTIONS:
        # A port of 0 was filled in when the cluster came up.
        waiting += _changed(section, getattr(running, section), getattr(wanted, section), ignored=("ray_port",))
    gateway = wanted.gateway.model_copy(update={key: getattr(running.gateway, key) for key in FIXED_GATEWAY_KEYS})
    waiting += [
        f"gateway.{key}"
        for key in FIXED_GATEWAY_KEYS
        if getattr(wanted.gateway, key) not in {getattr(running.gateway, key), 0}
    ]
    applied += _changed("gateway", running.gateway, gateway)
    fixed = {key: getattr(running.telemetry, key) for key in FIXED_TELEMETRY_KEYS}
    telemetry = wanted.telemetry.model_copy(update=fixed)
    waiting += _changed("telemetry", wanted.telemetry, telemetry)
    applied += _changed("telemetry", running.telemetry, telemetry)

    pools, pool_applied, pool_waiting, scales = _merge_pools(
        running, wanted, dropped, SERVE_KEYS + ROLLED_KEYS if rolls else SERVE_KEYS
    )
    models, model_applied, model_waiting = _merge_models(running, wanted, pools)
    applied += pool_applied + model_applied
    waiting += pool_waiting + model_waiting
    merged = running.model_copy(update={"gateway": gateway, "telemetry": telemetry, "pools": pools, "models": models})
    return merged, Reloaded(applied=tuple(applied), waiting=tuple(waiting)), scales


def _merge_pools(
    running: Config, wanted: Config, dropped: frozenset[str], serve_keys: Sequence[str]
) -> tuple[list[Any], list[str], list[str], bool]:
    before = {pool.name: pool for pool in running.pools}
    after = {pool.name: pool for pool in wanted.pools if pool.name not in dropped}
    pools: list[Any] = []
    applied: list[str] = []
    waiting = [f"pools.{name}" for name in before.keys() - after.keys() if not before[name].is_static]
    scales = False
    for name, pool in before.items():
        new = after.get(name, pool)
        if new.is_static != pool.is_static:
            waiting.append(f"pools.{name}")
            pools.append(pool)
            continue
        if pool.is_static:
            applied += _changed(f"pools.{name}", pool, new) if name in after else [f"pools.{name}"]
            pools += [new] if name in after else []
            continue
        for key in sorted(ENGINE_KEYS.difference(serve_keys)):
            waiting += [f"pools.{name}.{key}"] if getattr(pool, key) != getattr(new, key) else []
        scales = scales or any(getattr(pool, key) != getattr(new, key) for key in serve_keys)
        fresh = {key: getattr(new, key) for key in (*serve_keys, *GATEWAY_POOL_KEYS)}
        applied += [f"pools.{name}.{key}" for key, value in fresh.items() if getattr(pool, key) != value]
        pools.append(pool.model_copy(update=fresh))
    for name, pool in after.items():
        if name not in before:
            applied += [f"pools.{name}"] if pool.is_static else []
            waiting += [] if pool.is_static else [f"pools.{name}"]
            pools += [pool] if pool.is_static else []
    return pools, applied, waiting, scales


def _merge_models(
    running: Config, wanted: Config, pools: Sequence[PoolSection]
) -> tuple[list[Any], list[str], list[str]]:
    built = {pool.model for pool in pools if not pool.is_static}
    before = {model.id: model for model in running.models}
    after = {model.id: model for model in wanted.models}
    models: list[Any] = []
    applied: list[str] = []
    waiting: list[str] = []
    for name in sorted({pool.model for pool in pools}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            models.append(new or old)
            continue
        fixed = {key: getattr(old, key) for key in ENGINE_MODEL_KEYS} if name in built else {}
        kept = new.model_copy(update=fixed)
        waiting += _changed(f"models.{name}", new, kept)
        applied += _changed(f"models.{name}", old, kept)
        models.append(kept)
    return models, applied, waiting


def _changed(prefix: str, old: Any, new: Any, *, ignored: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{prefix}.{key}"
        for key in type(old).model_fields
        if key not in ignored and getattr(old, key) != getattr(new, key)
    ]
