"""What a load test may know of a cluster on this machine: the model's folder, and whether it computes in fp32.

What must not live here: asking a server (loadtest_target.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FP32 = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """What was found; nothing of a cluster that was not started here."""

    folder: Path | None = None
    """With its tokenizer."""
    is_fp32: bool = False
    """Whether each pool of the model is configured so: equal prompts then have equal greedy answers."""


def local_model(config: Path | None, model: str) -> LocalModel:
    """Of a model in the cluster that `config` names.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: what `up` wrote cannot be read.
    """
    from cluster.cli.target import run_dir
    from cluster.config import load_config
    from cluster.deployment import load_deployment

    where = run_dir(config)
    if not where.deployment.exists() or not where.config.exists():
        return LocalModel()
    folder = load_deployment(where.deployment).model_folders.get(model)
    pools = [pool for pool in load_config(where.config).pools if pool.model == model]
    return LocalModel(
        folder=None if folder is None else Path(folder),
        is_fp32=bool(pools) and all(not pool.is_static and pool.engine.dtype == FP32 for pool in pools),
    )
