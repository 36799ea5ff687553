"""Where vLLM draws ids that reach clients: a private seam, through which a request's own `Draws` are asked.

The events of a stream of `/v1/responses` name its items again and again, so they need the ids that the client has. Ids
that the engine draws for itself stay random: they must differ between any two requests in it, and are none of
clients' business. What must not live here: deriving them (draws.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from cluster.engine.call import CURRENT_CALL

log = logging.getLogger("longreach.engine")
DRAWERS = ("vllm.entrypoints.openai.responses.", "vllm.parser.", "vllm.tool_parsers.", "vllm.renderers.chat_utils")
"""Modules, or what their names begin with: they draw ids of responses, of their items and of tool calls."""
RANDOM, CHOSEN = "random_uuid", "choices"
"""What they draw with. The second is the standard library's, which Mistral's tool calls get their nine characters
of."""


def derive_ids() -> list[str]:
    """Let the modules of vLLM that are imported by now draw from a request's `Draws`, where it has any.

    Returns:
        Their names; empty where the seam is missing.
    """
    found = []
    for name, module in list(sys.modules.items()):
        if not name.startswith(DRAWERS):
            continue
        for attribute, instead in ((RANDOM, _random_uuid), (CHOSEN, _choices)):
            own = getattr(module, attribute, None)
            if callable(own):
                setattr(module, attribute, instead(own))
                found.append(name)
    if not found:
        log.error("vLLM draws its ids elsewhere: streams of /v1/responses change theirs where they are gone on with")
    return found


def _random_uuid(own: Callable[[], str]) -> Callable[[], str]:
    def random_uuid() -> str:
        call = CURRENT_CALL.get()
        return own() if call is None or call.draws is None else call.draws.digits()

    return random_uuid


def _choices(own: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def choices(population: Any, *, k: int) -> list[Any]:
        call = CURRENT_CALL.get()
        return own(population, k=k) if call is None or call.draws is None else call.draws.characters(population, k)

    return choices
