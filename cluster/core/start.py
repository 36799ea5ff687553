"""Where the seconds of a replica's start go, stage by stage.

What must not live here: clocks, and what happens in a stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class StartStage(StrEnum):
    """The stages, in their order; a replica that has not come to one, or skips it, has no seconds for it."""

    PROCESS = "process"
    """From the process's birth to the replica's first line: Ray's worker, Serve, this program."""
    MODEL = "model"
    """Bringing the model to the node, where it has to be."""
    IMPORTS = "imports"
    """Of vLLM, in the replica's own process."""
    PARENT = "parent"
    """Waiting for the same imports in the warm parent, which began beside them."""
    ENGINE = "engine"
    """The engine's processes, weights and KV cache; without a warm parent their imports too."""
    APP = "app"
    """vLLM's HTTP application."""
    PROBE = "probe"
    """The first token."""
    PORT = "port"
    """Until Serve has told the port and it answers: after it, the lease."""


def start_words(stages: Mapping[str, float]) -> str:
    """In one line for people, as `27.3 s: process 5.1, imports 14.0, …`; empty without stages.

    Args:
        stages: seconds by stage, as a replica reports them; stages of a newer version are shown as they are.
    """
    if not stages:
        return ""
    parts = ", ".join(f"{stage} {seconds_s:.1f}" for stage, seconds_s in stages.items())
    return f"{sum(stages.values()):.1f} s: {parts}"
