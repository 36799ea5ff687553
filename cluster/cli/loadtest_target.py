"""What a load test has to know of its target before it begins: the model, its context, how many tokens words have.

What must not live here: the load.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.local.client import GatewayClient
    from cluster.local.grpc_client import GrpcGatewayClient

ASK_TIMEOUT_S = 60.0
SAMPLE_WORDS = (50, 400)
"""Two lengths give tokens a word and what the template adds."""
CONTEXT_TOKENS = 32_768
"""Of engines that do not tell theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was found."""

    model: str
    context_tokens: int
    samples: tuple[tuple[int, int], ...]
    """Words of chats and the tokens they had; empty where the server counts none."""


def look_at(
    url: str, *, is_grpc: bool, key: str | None, ca_file: Path | None, model: str | None, counts: bool
) -> Target:
    """Ask the server.

    Args:
        url: its address, as `longreach chat` takes it.
        is_grpc: which API it speaks there.
        key: any that it knows.
        ca_file: vouches for it.
        model: None: the first on its list.
        counts: whether samples are wanted.

    Raises:
        GatewayRefusedError: it cannot be reached, refuses, or has no such model.
        SetupError: the address or a file cannot be used.
    """
    from cluster.local.client import GatewayRefusedError

    with _opened(url, is_grpc, key, ca_file) as client:
        found = client.models()
        name = model or (str(found[0]["id"]) if found else "")
        known = {str(one["id"]): one for one in found}
        if name not in known:
            raise GatewayRefusedError(f"{url} has no model {name!r}; it has {', '.join(known) or 'none'}")
        context = known[name].get("max_model_len")
        return Target(
            model=name,
            context_tokens=context if isinstance(context, int) and context > 0 else CONTEXT_TOKENS,
            samples=_samples(client, name) if counts else (),
        )


@contextlib.contextmanager
def _opened(
    url: str, is_grpc: bool, key: str | None, ca_file: Path | None
) -> Iterator[GatewayClient | GrpcGatewayClient]:
    from cluster.local.client import GatewayClient
    from cluster.local.grpc_client import GrpcGatewayClient

    kind: Any = GrpcGatewayClient if is_grpc else GatewayClient
    with contextlib.closing(kind(url, api_key=key, ca_file=ca_file, timeout_s=ASK_TIMEOUT_S)) as client:
        yield client


def _samples(client: GatewayClient | GrpcGatewayClient, model: str) -> tuple[tuple[int, int], ...]:
    from cluster.local.client import GatewayRefusedError
    from loadtest.text import ratio_writer

    writer, rng = ratio_writer(), random.Random(1)  # noqa: S311 - words
    texts = ["".join(writer.words(rng, words)) for words in SAMPLE_WORDS]
    try:
        counts = [client.count_tokens([{"role": "user", "content": text}], model=model) for text in texts]
    except GatewayRefusedError:  # an engine without /tokenize
        return ()
    return tuple(zip(SAMPLE_WORDS, counts, strict=True))
