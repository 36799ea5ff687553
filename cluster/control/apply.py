"""Brings the pools of a deployment onto a Ray cluster: `python -m cluster.control.apply DEPLOYMENT`.

A short-lived driver: Serve's controller outlives it. On few cores pools are started one after the other, smallest
first, because starting is almost all imports and two at once would make both late. What must not live here: starting
Ray, waiting for readiness (leases say it).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import ray
from ray import serve

from cluster.config import Config, ModelSection, load_config
from cluster.control.head import LOOPBACK
from cluster.control.pools import app_name, plan_version, pool_application
from cluster.core.errors import LongreachError, SetupError
from cluster.deployment import Deployment, load_deployment
from cluster.engine.hardware import Hardware, detect_hardware
from cluster.engine.plan import ReplicaPlan
from cluster.engine.settings import replica_plan
from cluster.models.card import ModelCard
from cluster.models.folder import card_from_folder
from cluster.models.sources import refer
from cluster.state.login import state_server

log = logging.getLogger("longreach.control")
CORES_TO_START_AT_ONCE = 8
"""Below this, a second starting engine slows the first more than it gains."""


def plans(config: Config, deployment: Deployment, hardware: Hardware) -> list[ReplicaPlan]:
    """A plan for each pool that Ray Serve runs, smallest context first.

    Raises:
        SetupError: the deployment lacks a model's folder, or a pool cannot be as its settings want it.
        ModelStoreError: a model is not what its folder or revision should be.
    """
    if deployment.cache_url is not None:
        config = config.with_cache(deployment.cache_url)
    pools = sorted((pool for pool in config.pools if not pool.is_static), key=lambda pool: pool.context_tokens)
    server = state_server(config.redis, own=deployment.state_url)
    made = []
    for pool in pools:
        model = config.model(pool.model)
        folder = deployment.model_folders.get(model.id)
        if folder is None:
            raise SetupError(f"the deployment names no folder for model {model.id}", "run `longreach up` again")
        made.append(
            replica_plan(
                config,
                pool,
                card=_card(model, Path(folder)),
                folder=folder,
                state_url=None if server is None else server.url,
                hardware=hardware,
            )
        )
    return made


def _card(model: ModelSection, folder: Path) -> ModelCard:
    """The catalog's card where it describes this revision, else what the folder says of itself."""
    # Not by the store: a relative `source` is relative to where `longreach up` ran.
    return refer(model.source or model.id, model.revision).known_card or card_from_folder(folder)


def apply(deployment: Deployment) -> None:
    """Submit every pool; returns when the last is submitted."""
    config = load_config(Path(deployment.config_path))
    hardware = detect_hardware()
    host = LOOPBACK if config.cluster.replica_host == LOOPBACK else "0.0.0.0"  # noqa: S104 - pods need to be reached
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": 0})
    at_once = len(hardware.cores) >= CORES_TO_START_AT_ONCE
    todo = plans(config, deployment, hardware)
    targets = [
        serve.RunTarget(
            target=pool_application(
                config.pool(plan.pool), plan, accelerator=plan.accelerator, version=plan_version(plan)
            ),
            name=app_name(plan.pool),
            route_prefix=f"/{plan.pool}",
        )
        for plan in todo
    ]
    if at_once:
        serve.run_many(targets, wait_for_applications_running=False)
        return
    for index, target in enumerate(targets):
        is_last = index == len(targets) - 1
        log.info("submitting %s", target.name)
        serve.run_many([target], wait_for_applications_running=not is_last)


def main() -> int:
    """Entry point; prints one line and exits 1 when the deployment cannot be applied."""
    parser = argparse.ArgumentParser(description="Apply a deployment's pools to the Ray cluster at RAY_ADDRESS.")
    parser.add_argument("deployment", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    ray.init(address=os.environ["RAY_ADDRESS"], namespace="longreach", log_to_driver=False)
    try:
        apply(load_deployment(arguments.deployment))
    except LongreachError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
