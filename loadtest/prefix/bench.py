"""The whole bench: which cluster is started for what, and everything that came of it as one report.

What must not live here: what is asked for (plan.py), how a part is measured (ttft.py, routing.py), tables.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from cluster.config import parse_config
from cluster.core.errors import SetupError
from cluster.engine.hardware import detect_hardware
from cluster.engine.settings import replica_plan
from cluster.environment import Environment
from cluster.models.card import Dtype, ModelCard
from cluster.models.opening import open_store
from loadtest.prefix.client import open_client
from loadtest.prefix.cluster import BenchCluster, running_cluster
from loadtest.prefix.configuration import POOL, REPLICAS, ClusterShape, configuration
from loadtest.prefix.plan import Part, Plan, Stage
from loadtest.prefix.progress import Watcher
from loadtest.prefix.results import routing_rows, targets, ttft_row
from loadtest.prefix.routing import run_policy
from loadtest.prefix.tokens import Tokens
from loadtest.prefix.ttft import STEPS, measure_ttft
from loadtest.prefix.workload import tenant_names


class PrefixBench:
    """One run of the bench.

    Args:
        plan: what to measure.
        environment: where models and run folders are.
        console: for what the cluster says while it starts.
        watcher: is told of every step of measuring.
    """

    def __init__(self, plan: Plan, *, environment: Environment, console: Console, watcher: Watcher) -> None:
        self._plan = plan
        self._environment = environment
        self._console = console
        self._watcher = watcher
        self._http = open_client(connections=plan.concurrency + 2)

    def run(self) -> dict[str, Any]:
        """Measure everything, and give the report.

        Raises:
            SetupError: this machine cannot run it.
            BenchError: something was not answered as it should be.
            ModelStoreError: the model cannot be had.
        """
        plan = self._plan
        ttft: dict[str, Any] | None = None
        routing: list[dict[str, Any]] = []
        with self._http:
            for stage in plan.stages():
                shape = self._shape(stage)
                self._console.print(_heading(shape), style="bold", highlight=False, soft_wrap=True)
                with running_cluster(
                    shape,
                    tenants=tenant_names(plan.shape),
                    environment=self._environment,
                    console=self._console,
                    http=self._http,
                ) as cluster:
                    tokens = Tokens(cluster.model_folder)
                    if ttft is None and stage.with_tier and plan.part is not Part.ROUTING:
                        ttft = self._ttft(cluster, tokens)
                    if stage.cache_share is not None:
                        routing += self._routing(cluster, tokens, stage, stage.cache_share)
        return {
            "setup": self._setup(),
            "ttft": ttft,
            "routing": routing,
            "targets": [target.row() for target in targets(ttft, routing)],
        }

    def _ttft(self, cluster: BenchCluster, tokens: Tokens) -> dict[str, Any]:
        plan = self._plan
        self._watcher.begins("time to first token", len(cluster.replicas) + STEPS * plan.repeats)
        rounds = measure_ttft(
            cluster,
            tokens,
            prompt_tokens=plan.prefix_tokens,
            repeats=plan.repeats,
            seed=plan.seed,
            watcher=self._watcher,
        )
        self._watcher.ends()
        return ttft_row(rounds)

    def _routing(self, cluster: BenchCluster, tokens: Tokens, stage: Stage, share: float) -> list[dict[str, Any]]:
        plan = self._plan
        state = "on" if stage.with_tier else "off"
        self._watcher.begins(f"routing, tier {state}", len(plan.policies) * plan.shape.requests)
        runs = [
            run_policy(
                cluster,
                tokens,
                policy,
                shape=plan.shape,
                seed=plan.seed,
                name=f"{state}:{policy}",
                concurrency=plan.concurrency,
                watcher=self._watcher,
            )
            for policy in plan.policies
        ]
        self._watcher.ends()
        facts = {"tier": state, "cache_share": share, "cache_tokens": cluster.cache_tokens}
        return routing_rows(runs, facts, block_tokens=cluster.replicas[0].block_tokens)

    def _shape(self, stage: Stage) -> ClusterShape:
        plan = self._plan
        card = open_store(self._environment).resolve(plan.model)
        shape = ClusterShape(
            model=plan.model,
            dtype=plan.dtype,
            context_tokens=plan.context_tokens,
            cache_tokens=stage.cache_tokens,
            kv_bytes_per_token=card.kv_bytes_per_token,
            with_tier=stage.with_tier,
        )
        if shape.rounded_context_tokens > card.context_tokens:
            raise SetupError(
                f"the longest prompt takes a context of {shape.rounded_context_tokens:,} tokens, and {plan.model} has "
                f"{card.context_tokens:,}",
                "ask for shorter prompts (--prefix-tokens, --document-tokens, --turns)",
            )
        return _with_kv_bytes(shape, card)

    def _setup(self) -> dict[str, Any]:
        plan = self._plan
        return {
            **{key: value for key, value in asdict(plan).items() if key != "shape"},
            "policies": list(plan.policies),
            **asdict(plan.shape),
            "cache_shares": list(plan.cache_shares),
            "kv_bytes_per_token": self._shape(plan.stages()[0]).kv_bytes_per_token,
            "replicas": REPLICAS,
            "cores": len(os.sched_getaffinity(0)),
        }


def _heading(shape: ClusterShape) -> str:
    tier = "with" if shape.with_tier else "without"
    return f"A cluster of {REPLICAS} replicas {tier} the Redis tier, {shape.room_tokens:,} tokens of KV cache in each"


def _with_kv_bytes(shape: ClusterShape, card: ModelCard) -> ClusterShape:
    """The shape with what a token takes in the dtype that the engine will choose here."""
    # The tier needs its server's address, and has no part in this.
    data = configuration(replace(shape, with_tier=False), keys_file=Path("keys.yaml"), port_min=1024)
    config = parse_config(yaml.safe_dump(data))
    plan = replica_plan(config, config.pool(POOL), card=card, folder="", state_url=None, hardware=detect_hardware())
    used = card.dtype if plan.dtype == "auto" else Dtype(plan.dtype)
    kv_bytes = card.kv_bytes_per_token * used.size_bytes // card.dtype.size_bytes
    return ClusterShape(**{**asdict(shape), "kv_bytes_per_token": kv_bytes})
