"""From a configuration to what this machine will run: models on disk, pools that fit, ports filled in.

What must not live here: starting processes (up.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from rich.console import Console

from cluster.bootstrap.preflight import memory_available_bytes
from cluster.config import Config
from cluster.engine.hardware import Hardware, detect_hardware
from cluster.engine.settings import replica_plan
from cluster.environment import Environment
from cluster.local.fit import GIB, Fit, Machine, PoolNeed, fit_pools, pool_need, without_pools
from cluster.local.ports import with_ports
from cluster.local.weights import Weights, pull_models
from cluster.state import embedded


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is about to run."""

    config: Config
    folders: dict[str, str]
    """Model id to folder."""
    dropped: tuple[PoolNeed, ...]


def prepare(config: Config, environment: Environment, console: Console) -> Prepared:
    """Fetch what is missing and choose what fits.

    Raises:
        SetupError: a port is taken, or not even one pool fits.
        ModelStoreError: a model cannot be had.
    """
    config = with_ports(config)
    weights = pull_models(config, environment, console)
    fit = _fit(config, weights, detect_hardware())
    for need in fit.dropped:
        wanted = f"{need.gpus} GPUs" if need.gpus else f"{need.memory_bytes / GIB:.1f} GiB of memory"
        console.print(
            f"  [yellow]too little for everything:[/] pool {need.pool} is left out (it needs {wanted} more); "
            "requests too long for the other pools will be refused",
            highlight=False,
            soft_wrap=True,
        )
    return Prepared(
        config=without_pools(config, fit.dropped),
        folders={name: str(found.folder) for name, found in weights.items()},
        dropped=fit.dropped,
    )


def write_config(config: Config, path: Path, *, origin: str) -> None:
    """Write the configuration in force; only what was set, so that it reads as its author wrote it."""
    partial = path.with_suffix(".partial")
    text = yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False)
    partial.write_text(f"# Made by `longreach up` from {origin}; changes here are lost.\n{text}", encoding="utf-8")
    partial.replace(path)


def _fit(config: Config, weights: dict[str, Weights], hardware: Hardware) -> Fit:
    needs: dict[str, PoolNeed] = {}
    embeds_cache = config.needs_cache
    # Its port is chosen when it starts; how much memory a replica takes does not depend on it.
    planned = config.with_cache(embedded.url(0)) if embeds_cache else config
    for pool in config.pools:
        if pool.is_static:
            continue
        card, folder = weights[pool.model].card, str(weights[pool.model].folder)
        plan = replica_plan(planned, pool, card=card, folder=folder, state_url=None, hardware=hardware)
        needs[pool.name] = pool_need(pool, plan, card, uses_cache=embeds_cache and pool.has_tier)
    available_bytes = min(memory_available_bytes(), psutil.virtual_memory().available)
    return fit_pools(needs, config, Machine(available_bytes=available_bytes, gpus=count_gpus()))


def count_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA devices, as the driver numbers them."""
    return sum(1 for device in devices.glob("nvidia[0-9]*") if device.name.removeprefix("nvidia").isdigit())
