"""The pools as KubeRay submits them: each an application of a RayService's `serveConfigV2`, built here by Ray Serve.

An entry there reads

    - name: pool-short
      route_prefix: /short
      import_path: cluster.control.kuberay:pool
      args: {pool: short, config: {...}}
      deployments: [{name: replica, num_replicas: 2}]

Replica counts are left to `deployments`: what changes in `args` makes Serve replace every replica. What must not live
here: the application itself (pools.py).
"""

from __future__ import annotations

import json
from typing import Any

from ray.serve.deployment import Application

from cluster.config import Config, Section, parse_section
from cluster.control.pools import pool_application
from cluster.core.errors import ConfigError, ConfigMistake
from cluster.engine.order import ReplicaOrder
from cluster.engine.plan import Accelerator


class PoolArguments(Section):
    """`args` of an application: the pool's name, and the configuration with no more than it needs."""

    pool: str
    config: Config


def pool(args: dict[str, Any]) -> Application:
    """The Serve application of one pool.

    Args:
        args: as `PoolArguments`.

    Raises:
        ConfigError: they have mistakes, or leave open what the pool computes on.
    """
    origin = "serveConfigV2 args"
    # Through text: it is checked as a configuration file is, with the same words for the same mistakes.
    arguments = parse_section(json.dumps(args), PoolArguments, origin=origin, expects="the keys pool and config")
    section = next((each for each in arguments.config.pools if each.name == arguments.pool), None)
    if section is None or section.is_static:
        raise ConfigError(origin, (_mistake("pool", f"config has no pool {arguments.pool!r} that runs replicas"),))
    if section.accelerator == "auto":
        problem = "must say cpu or cuda: the process that reads this runs on a node that may have neither"
        raise ConfigError(origin, (_mistake("config.pools.accelerator", problem),))
    order = ReplicaOrder(config=arguments.config, pool_name=section.name)
    return pool_application(section, order, accelerator=Accelerator(section.accelerator), version=None)


def _mistake(field: str, problem: str) -> ConfigMistake:
    return ConfigMistake(line=0, field=field, problem=problem)
