"""Where a load test goes, and how it asks.

What must not live here: what is asked (loadtest/plan.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml

from cluster.core.errors import SetupError
from loadtest.client.answer import Answer
from loadtest.plan import Kind

TIMEOUT_S = 600.0
"""Of one request: a long prompt behind others takes minutes; whoever tests for less says so."""
CONNECT_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 16 * 2**20
"""Of one answer whose text is kept, or that is not a stream: a hundred thousand tokens as events."""
KEYS_BYTES_MAX = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Where to, and how."""

    url: str
    """Of REST without /v1; of gRPC host:port, or with `grpc://` before it, `grpcs://` for TLS."""
    model: str
    is_grpc: bool = False
    streams: bool = True
    timeout_s: float = TIMEOUT_S
    """From a request's due time to the end of its answer, so that a late client does not lengthen it."""
    api_key: str | None = field(default=None, repr=False)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """API keys by tenant."""
    priority: str = ""
    """Of sessions that have none of their own."""
    ca_file: Path | None = None
    """Vouches for a gateway with TLS; None: the usual authorities."""
    temperature: float = 0.0
    wants_token_ids: bool = False
    """Asks for the ids of generated tokens (vLLM's `return_token_ids`), where somebody reads the answer's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, before it has the form of either API."""

    kind: Kind
    messages: Sequence[tuple[str, str]]
    """Role and text, oldest first; of a completion, the prompt alone."""
    output_tokens: int
    is_exact: bool
    headers: Mapping[str, str]
    """Key, id, session, priority: as HTTP headers or gRPC metadata."""
    wants_text: bool = False
    """Whether somebody reads the answer, as a conversation's next turn does."""


class Transport(Protocol):
    """Sends requests over one API. Faults are answers too: nothing is raised but cancellation."""

    def prepare(self, ask: Ask) -> object:
        """The request as it goes out; made before it is due, because a long prompt takes a while."""
        ...

    async def send(self, prepared: object, answer: Answer, *, deadline_s: float) -> None:
        """Send it, and wait for the end of its answer.

        Args:
            prepared: what `prepare` made.
            answer: filled as it arrives, so that what came is known even of one that is cut off.
            deadline_s: when to give up, on `time.monotonic()`; cancelling aborts at once.
        """
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


def read_keys(path: Path) -> dict[str, str]:
    """API keys by tenant, from a YAML file of `tenant: key` lines.

    Raises:
        SetupError: it cannot be read, or is something else.
    """
    remedy = "write one line `tenant: key` for each tenant"
    try:
        with path.open(encoding="utf-8") as file:
            found = yaml.safe_load(file.read(KEYS_BYTES_MAX))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # The error's own text may quote a key.
        raise SetupError(f"{path} cannot be read: {type(error).__name__}", remedy) from None
    if not isinstance(found, dict) or not found:
        raise SetupError(f"{path} has no keys", remedy)
    keys = {str(tenant): key for tenant, key in found.items()}
    for tenant, key in keys.items():
        if not (isinstance(key, str) and key.isascii() and key.isprintable()):
            raise SetupError(f"{path}: the key of {tenant} is not printable ASCII text", remedy)
    return keys
