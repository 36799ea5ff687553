"""What the tier tells the replica's API process about itself, and what that process tells the tier with a request.

The tier lives in vLLM's engine core, where KV layout and block size are known; the API process needs them to ask Redis
about a prompt. They meet in a small file in a private folder. What must not live here: vLLM, Redis.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from cluster.core.tier.keys import NO_TAG, is_tag

PARAMETER = "longreach"
"""Our part of vLLM's `kv_transfer_params`; clients cannot set those (cluster/core/wire.py)."""
WAIT_MAX_S = 10.0
"""Longest a request may wait for its load, whatever it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierFacts:
    """The tier as it came up."""

    fingerprint: str
    block_tokens: int
    """Of one value in Redis."""
    payload_bytes: int
    """Of one value, over all ranks."""
    host_blocks: int
    """That the host's memory holds, through which all that is fetched goes."""

    @property
    def bytes_per_token(self) -> float:
        """What Redis holds for a token."""
        return self.payload_bytes / self.block_tokens

    def write(self, path: Path) -> None:
        """Leave the facts where the API process looks for them; it never sees half of them."""
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The facts in this file.

        Raises:
            OSError: there are none.
            ValueError: it holds something else.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except TypeError as error:
            raise ValueError(f"not the facts of a tier: {error}") from error


@dataclass(slots=True, kw_only=True)
class RequestTerms:
    """What one request may take from Redis; `known_tokens` shrinks when a load fails: nothing is tried twice."""

    known_tokens: int = 0
    """The prompt's first so many tokens were in Redis a moment ago."""
    wait_s: float = 0.0
    """Longer than this the load must not take: computing would be faster."""
    tag: str = NO_TAG
    tried: int = 0
    """Blocks that were to be fetched for it so far, some perhaps again."""

    def parameter(self) -> dict[str, Any]:
        """For the request's `kv_transfer_params`."""
        return {PARAMETER: {"known": self.known_tokens, "wait_s": round(self.wait_s, 4), "tag": self.tag}}

    @classmethod
    def of(cls, parameters: Mapping[str, Any] | None) -> Self:
        """The terms in a request's `kv_transfer_params`; anything else in their place means none."""
        said = (parameters or {}).get(PARAMETER)
        if not isinstance(said, dict) or not is_tag(said.get("tag")):
            return cls()
        known, wait_s = said.get("known"), said.get("wait_s")
        if not isinstance(known, int) or not isinstance(wait_s, (int, float)):
            known, wait_s = 0, 0.0
        return cls(known_tokens=known, wait_s=min(max(float(wait_s), 0.0), WAIT_MAX_S), tag=said["tag"])
