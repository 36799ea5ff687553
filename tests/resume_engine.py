"""A real engine of the tiny model whose streams are cut after every event, or at drawn ones, and gone on with.

Prints as JSON, for each kind of request, how many cuts there were and what differed. A program of its own, as
tests/tier_engine.py is. What must not live here: what the outcome should be (tests/integration/test_resume_engine.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from cluster.config import parse_config
from cluster.core import wire
from cluster.core.resume import encode_delivered
from cluster.engine import checked
from cluster.engine.arguments import engine_environment
from cluster.engine.call import Call
from cluster.engine.checked import fitted
from cluster.engine.gate import Gate
from cluster.engine.hardware import Hardware
from cluster.engine.layer import EngineLayer
from cluster.engine.plan import Accelerator
from cluster.engine.settings import replica_plan
from tests.resume_kinds import KINDS, OUTGROWN, PICKED
from tests.tier_engine import use_fork_server
from tests.unit.engine.plans import card

ASK_S = 30.0
SMALL = threading.Event()
"""Set while the engine's context is a small one."""
VARIES = frozenset({
    "created", "created_at", "sequence_number", "prompt_tokens_details", "input_tokens_details",
    "cache_read_input_tokens", "cache_creation_input_tokens",
})  # fmt: skip
"""When it was, and what of the prompt was cached: the gateway puts the first right, the second is another replica's.
Events are numbered as they come, and how many come is chance: `is_numbered` looks at that."""
HEADERS = {"content-type": "application/json", "x-request-id": "one", wire.HEADER_WANTS: "ids,outcome"}
DRAWS = {wire.HEADER_DRAWS: "5eed" * 8}
"""As the gateway gives it with every request for one response: its ids are the same, cut or not."""
ROOM_TOKENS = 9
"""Of output, in the small context."""
DELTAS = ("response.output_text.delta", "response.reasoning_text.delta", "response.function_call_arguments.delta")
ITEM = ("type", "item_id", "output_index", "content_index")
"""What they have besides text: which item it belongs to."""


class Stream:
    """What came of one stream."""

    def __init__(self, content: bytes) -> None:
        self.lines: list[list[bytes]] = []
        """For each event, the groups of tokens told since the one before."""
        self.events: list[bytes] = []
        self.outcome = b""
        self.full: int | None = None
        """After so many events it told that its context is full."""
        waiting: list[bytes] = []
        for event in content.split(b"\n\n")[:-1]:
            if event.startswith(wire.COMMENT_IDS):
                waiting.append(event[len(wire.COMMENT_IDS) :])
            elif event.startswith(wire.COMMENT_OUTCOME):
                self.outcome = event
            elif event.startswith(wire.COMMENT_FULL):
                self.full = len(self.events)
            else:
                self.lines.append(waiting)
                self.events.append(event)
                waiting = []

    def delivered(self, cut: int) -> bytes:
        """What its client has after so many events, for a body."""
        groups, events = [], 0
        for lines in self.lines[:cut]:
            groups += lines
            events = 1 if lines else events + 1
        return encode_delivered(b"\n".join(groups), events)


async def ask(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], delivered: bytes = b"", **more: str
) -> httpx.Response:
    text = json.dumps({"model": "tiny", "stream": True, **body}).encode()
    headers = {**HEADERS, **(DRAWS if path == "/v1/responses" else {}), **more}
    if delivered:
        text = text[:-1] + b"," + delivered + b"}"
        headers[wire.HEADER_RESUME] = "1"
    async with asyncio.timeout(ASK_S):
        return await client.post(path, content=text, headers=headers)


async def trial(client: httpx.AsyncClient, name: str, cuts: int, rng: random.Random) -> dict[str, Any]:
    path, body = KINDS[name]
    if body.get("stop") == PICKED:
        rows = same(path, Stream((await ask(client, path, {**body, "stop": None})).content).events)
        text = max((row for row in rows if isinstance(row, str)), key=len)
        body = {**body, "stop": [text[len(text) * 2 // 3 :][:7]]}
    answer = await ask(client, path, body)
    whole = Stream(answer.content)
    places = range(len(whole.events)) if cuts == 0 else sorted(rng.choices(range(len(whole.events)), k=cuts))
    differing: list[dict[str, Any]] = []
    ways: set[str] = set()
    for cut in places:
        again = await ask(client, path, body, whole.delivered(cut))
        rest = Stream(again.content)
        ways.add(again.headers.get(wire.HEADER_RESUMED, ""))
        expected, found = same(path, whole.events[cut:]), same(path, rest.events)
        if found != expected:
            places_of = [at for at, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other]
            at = places_of[0] if places_of else min(len(expected), len(found))
            told = (len(expected), len(found), at, expected[at : at + 2], found[at : at + 2])
            differing.append({"cut": cut, "status": again.status_code, "told": repr(told)})
        elif not is_numbered(whole.events[:cut] + rest.events):
            differing.append({"cut": cut, "numbers": repr(rest.events)})
        elif tokens_of(rest.outcome) != tokens_of(whole.outcome):
            differing.append({"cut": cut, "outcomes": repr((whole.outcome, rest.outcome))})
    outgrown = await outgrow(client, path, body, whole) if name in OUTGROWN else None
    text = b"".join(whole.events).decode("utf-8", "replace")
    error = "" if answer.is_success else answer.text[:300]
    return {
        "status": answer.status_code, "error": error, "events": len(whole.events), "cuts": len(places),
        "outgrown": outgrown, "ways": sorted(ways), "differing": differing,
        "text": text if len(whole.events) < 3 else text[-300:],
    }  # fmt: skip


async def outgrow(client: httpx.AsyncClient, path: str, body: dict[str, Any], whole: Stream) -> str:
    """What differs where a small context is full first and a large one goes on; empty: nothing."""
    tokens = body.get("max_tokens") or body["max_output_tokens"]
    headers = {wire.HEADER_OUTPUT_TOKENS: "4", wire.HEADER_GROWS: str(tokens)}
    SMALL.set()
    try:
        answer = await ask(client, path, body, **headers)
    finally:
        SMALL.clear()
    short = Stream(answer.content)
    if short.full is None:
        return f"{answer.status_code}, not full: {answer.text[:500]}"
    again = await ask(client, path, body, short.delivered(short.full), **headers)
    rest = Stream(again.content)
    events = short.events[: short.full] + rest.events
    expected, found = same(path, whole.events), same(path, events)
    if found != expected or rest.full is not None or not is_numbered(events):
        return repr((short.full, rest.full, expected, found))
    return "" if tokens_of(rest.outcome) == tokens_of(whole.outcome) else repr((whole.outcome, rest.outcome))


def narrowed(params: Any, call: Call, prompt_tokens: int, context_tokens: int) -> Any:
    """As `checked.fitted`, with little room where a test wants it: one engine stands for a small and a large one."""
    return fitted(params, call, prompt_tokens, prompt_tokens + ROOM_TOKENS if SMALL.is_set() else context_tokens)


def same(path: str, events: list[bytes]) -> list[Any]:
    """What has to be equal: the events in their order, those of each choice for itself.

    How many tokens an event has is chance: what follows one another as text is put together, and its log probabilities.
    """
    rows: dict[int, list[Any]] = {}
    item: dict[str, Any] = {}
    for event in events:
        _, _, text = event.rpartition(b"data: ")
        data = pruned(json.loads(text)) if text != b"[DONE]" else {}
        first = (data.get("choices") or [{}])[0]
        row = rows.setdefault(first.get("index", 0), [])
        # The last tokens may come with the end, or before it: they are put together with the others either way.
        end = end_of(data)
        piece = text_of(data) if end is None else end[0]
        told = data.get("logprobs") or (first.get("logprobs") or {}).get("content") if end is None else end[1]
        before, item = item, {key: data[key] for key in ITEM if key in data} if piece is not None else {}
        if item and item != before:
            row.append(item)
        if piece and told:
            if not row or not isinstance(row[-1], list):
                row.append(["", []])
            row[-1][0] += piece
            row[-1][1] += told
        elif piece and row and isinstance(row[-1], str):
            row[-1] += piece
        elif piece:
            row.append(piece)
        if piece is None or end is not None:
            row.append(data)
    return [row for _, found in sorted(rows.items()) for row in found]


def is_numbered(events: list[bytes]) -> bool:
    """Whether events that have numbers have all of them, in order."""
    numbers = [
        json.loads(event.rpartition(b"data: ")[2]).get("sequence_number") for event in events if event[-1:] == b"}"
    ]
    return numbers in (list(range(len(numbers))), [None] * len(numbers))


def end_of(data: dict[str, Any]) -> tuple[str, list[Any]] | None:
    """Takes text and log probabilities out of an event that ends a choice; None of any other."""
    choice = (data.get("choices") or [{}])[0]
    if choice.get("finish_reason") is None:
        return None
    text = choice["delta"].pop("content", None) if "delta" in choice else choice.pop("text", None)
    told = (choice.pop("logprobs", None) or {}).get("content")
    return text or "", told or []


def pruned(data: Any) -> Any:
    """Without what differs from run to run."""
    if isinstance(data, dict):
        kept = {key: pruned(value) for key, value in data.items() if key not in VARIES}
        if str(kept.get("id", "")).startswith("chatcmpl-tool-"):
            kept["id"] = "drawn"  # which one the client gets is decided when it gets it
        return kept
    return [pruned(value) for value in data] if isinstance(data, list) else data


def text_of(data: dict[str, Any]) -> str | None:
    """The text of an event that has nothing else but its log probabilities; None of any other."""
    if data.get("choices") and data["choices"][0].get("finish_reason") is None:
        choice = data["choices"][0]
        delta = choice.get("delta", choice)
        calls = delta.get("tool_calls") or []
        if len(calls) == 1 and "id" not in calls[0]:
            return str(calls[0]["function"].get("arguments"))
        if not calls and "role" not in delta:
            return str(delta.get("content", delta.get("text")))
    if data.get("type") == "content_block_delta":
        return str(data["delta"].get("text"))
    if data.get("type") in DELTAS:
        return str(data["delta"])
    return None


def tokens_of(outcome: bytes) -> list[str]:
    """Prompt and output tokens."""
    return re.findall(r"(?:prompt|output|p|o)[a-z_]*=?:?\d+", outcome.decode())[:2]


async def run(folder: Path, cuts: int, kinds: list[str]) -> dict[str, Any]:
    from cluster.engine.vllm_engine import start_engine

    config = parse_config(
        "models: [{id: tiny, tool_parser: hermes}]\n"
        "pools: [{name: short, model: tiny, context_tokens: 4096, engine: {dtype: float32, kv_cache_gib: 0.1}}]\n"
    )
    cores = tuple(sorted(os.sched_getaffinity(0)))[:1]
    hardware = Hardware(accelerator=Accelerator.CPU, cores=cores, cpu_flags=frozenset(), memory_bytes=1 << 34)
    plan = replica_plan(config, config.pools[0], card=card(), folder=str(folder), state_url=None, hardware=hardware)
    os.environ.update(engine_environment(plan))
    checked.fitted = narrowed
    engine = await start_engine(plan)
    layer = EngineLayer(engine.app, Gate(engine_is_dead=lambda: False, max_requests=8))
    transport = httpx.ASGITransport(layer)  # type: ignore[arg-type]
    rng = random.Random(1)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=60.0) as client:
            found = {}
            for name in kinds or KINDS:
                found[name] = await trial(client, name, cuts, rng)
                sys.stderr.write(f"{name}: {found[name]['cuts']} cuts, {len(found[name]['differing'])} differ\n")
            return found
    finally:
        engine.shutdown()


def main() -> None:
    use_fork_server()
    sys.stdout.write(json.dumps(asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))) + "\n")


if __name__ == "__main__":
    main()
