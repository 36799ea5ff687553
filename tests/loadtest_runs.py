"""Runs of load tests for tests: records with usual values, random ones, and a tokenizer of the real tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from cluster.core.prompt import Conversation
from cluster.environment import read_environment
from cluster.models.tiny import write_small_files
from loadtest.plan import Session
from loadtest.record import Record, Run
from services.gateway.tokenizer import Counting

USUAL = Record(
    label="chat",
    tenant="",
    session=0,
    turn=0,
    due_s=0.0,
    sent_s=0.0,
    first_token_s=0.1,
    ended_s=0.3,
    gaps_s=[0.1, 0.1],
    status=200,
    error="",
    code="",
    prompt_tokens=100,
    cached_tokens=0,
    output_tokens=3,
    pool="short",
    replica="r1",
)


def record(**fields: Any) -> Record:
    """A good answer but for what is given."""
    return replace(USUAL, **fields)


def refused(**fields: Any) -> Record:
    """A 429."""
    nothing = {"first_token_s": None, "gaps_s": [], "prompt_tokens": 0, "output_tokens": 0, "pool": "", "replica": ""}
    return record(**{"status": 429, "error": "refused", "code": "overloaded", **nothing, **fields})


def run(*records: Record, **fields: Any) -> Run:
    """A run of these."""
    usual: dict[str, Any] = {
        "scenario": "short-chat",
        "arguments": {"seed": 1},
        "api": "rest",
        "begun": "2026-11-28T12:00:00+00:00",
        "seconds": 10.0,
        "warmup_s": 0.0,
    }
    return Run(records=records, **{**usual, **fields})


TIMES = st.floats(0, 50).map(lambda value: round(value, 6))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Anything that a client may write."""
    due = draw(TIMES)
    sent = due + draw(TIMES) / 100
    error = draw(st.sampled_from(["", "", "", "refused", "unavailable", "broken", "timeout"]))
    begins = not error or draw(st.booleans())
    gaps = draw(st.lists(TIMES.map(lambda value: value / 100), max_size=5)) if begins else []
    first = sent + draw(TIMES) if begins else None
    tokens = len(gaps) + 1 + draw(st.integers(0, 3)) if begins else 0
    prompt = draw(st.integers(1, 200_000)) if begins else 0
    return Record(
        label=draw(st.sampled_from(["", "short", "long"])),
        tenant=draw(st.sampled_from(["", "gold"])),
        session=draw(st.integers(0, 9)),
        turn=draw(st.integers(0, 3)),
        due_s=round(due, 6),
        sent_s=round(sent, 6),
        first_token_s=None if first is None else round(first, 6),
        ended_s=round((sent if first is None else first) + sum(gaps), 6),
        gaps_s=[round(gap, 6) for gap in gaps],
        status=200 if begins else 429,
        error=error,
        code="overloaded" if error == "refused" else "",
        prompt_tokens=prompt,
        cached_tokens=draw(st.integers(0, prompt)),
        output_tokens=tokens,
        pool=draw(st.sampled_from(["", "a", "b"])),
        replica="",
        planned_tokens=draw(st.sampled_from([0, 500, 5_000])),
    )


RUNS = st.builds(
    lambda rows, seconds, warmup: run(*rows, seconds=seconds, warmup_s=warmup),
    st.lists(records(), max_size=30),
    st.floats(0.5, 60).map(lambda value: round(value, 6)),
    st.sampled_from([0.0, 5.0]),
)


def first_prompt_tokens(session: Session, counting: Counting) -> int:
    """What a session's first prompt has in the engine."""
    turn = session.turns[0]
    if session.kind == "completion":
        return counting.exact(turn.text, add_special_tokens=True)
    messages = [{"role": "system", "content": session.system}] if session.system else []
    messages.append({"role": "user", "content": turn.text})
    texts = counting.rendered(
        Conversation(messages=tuple(messages), template_arguments={"add_generation_prompt": True})
    )
    assert texts is not None
    return counting.longest(texts)


def tokenizer_folder(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `tiny` or `demo` has its tokenizer; skips where the demo model is not on this machine."""
    if model == "tiny":
        folder = tmp_path_factory.mktemp("tiny")
        write_small_files(folder)
        return folder
    found = sorted((read_environment().cache_home / "models").glob("demo/*/tokenizer.json"))
    if not found:
        pytest.skip("the demo model was not pulled: longreach models pull demo")
    return found[0].parent
