"""The fits that come with Longreach, for those without the files, and how a fit is written and read.

What must not live here: fitting (fit.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

from cluster.simulator.traces.burst import Bursts
from cluster.simulator.traces.fit import Sharing, TraceFit

DEFAULT_FIT = "mooncake-conversation"
"""The only public trace with prompts beyond 16k tokens."""


@cache
def builtin_fits() -> Mapping[str, TraceFit]:
    """By name; `fits.json` holds them."""
    text = files("cluster.simulator.traces").joinpath("fits.json").read_text(encoding="utf-8")
    return {row["name"]: fit_from(row) for row in json.loads(text)}


def fit_as_json(fit: TraceFit) -> dict[str, Any]:
    """For `fits.json`."""
    return asdict(fit)


def fit_from(row: Mapping[str, Any]) -> TraceFit:
    """What `fit_as_json` wrote."""
    sharing = row["sharing"]
    return TraceFit(
        name=row["name"],
        source=row["source"],
        requests_per_s=row["requests_per_s"],
        prompt_tokens=tuple(row["prompt_tokens"]),
        output_tokens=tuple(tuple(band) for band in row["output_tokens"]),
        bursts=Bursts(**row["bursts"]),
        sharing=None
        if sharing is None
        else Sharing(
            block_tokens=sharing["block_tokens"],
            root_blocks=sharing["root_blocks"],
            shares=tuple(sharing["shares"]),
            ratios=tuple(sharing["ratios"]),
            gaps_s=tuple(sharing["gaps_s"]),
        ),
    )
