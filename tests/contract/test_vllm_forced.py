"""The logits processor as both of vLLM's model runners use it; a real engine is in test_resume_engine.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed in this environment")
pytest.importorskip("vllm", reason="vLLM is not installed in this environment")

from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality  # noqa: E402
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SecondRunners  # noqa: E402

from cluster.engine.resume.forced import ForcedTokens  # noqa: E402
from cluster.engine.resume.forcing import ARGUMENT  # noqa: E402


def params(*ids: int) -> Any:
    return SimpleNamespace(extra_args={ARGUMENT: list(ids)} if ids else None)


def allowed(logits: Any) -> list[list[int]]:
    return [torch.nonzero(torch.isfinite(row)).flatten().tolist() for row in logits]


def test_both_runners_take_it() -> None:
    assert issubclass(ForcedTokens, LogitsProcessor)
    assert issubclass(ForcedTokens, SecondRunners)


def test_the_first_runner_forces_rows_until_their_tokens_are_used_up() -> None:
    forced = ForcedTokens(None, "cpu", False)
    made: list[int] = []
    forced.update_state(
        BatchUpdate(2, removed=[], added=[(0, params(3, 1), [], made), (1, params(), [], [])], moved=[])
    )
    assert allowed(forced.apply(torch.zeros(2, 4))) == [[3], [0, 1, 2, 3]]
    made.append(3)
    assert allowed(forced.apply(torch.zeros(2, 4))) == [[1], [0, 1, 2, 3]]
    forced.update_state(BatchUpdate(2, removed=[], added=[], moved=[(0, 1, MoveDirectionality.SWAP)]))
    assert allowed(forced.apply(torch.zeros(2, 4))) == [[0, 1, 2, 3], [1]]
    made.append(1)
    assert allowed(forced.apply(torch.zeros(2, 4))) == [[0, 1, 2, 3]] * 2
    forced.update_state(BatchUpdate(1, removed=[1], added=[], moved=[]))
    assert allowed(forced.apply(torch.zeros(1, 4))) == [[0, 1, 2, 3]]


def test_the_second_runner_forces_slots() -> None:
    lengths = SimpleNamespace(np=[10, 20, 30])
    forced = ForcedTokens(None, SimpleNamespace(prompt_len=lengths))
    assert forced.add_request(2, params(3, 1))
    assert not forced.add_request(0, params())
    context: Any = SimpleNamespace(idx_mapping_np=[0, 2], seq_lens_upper_bound_np=[11, 31])
    assert allowed(forced.apply(torch.zeros(2, 4), context)) == [[0, 1, 2, 3], [1]]
    assert not forced.add_request(2, params())
    assert allowed(forced.apply(torch.zeros(2, 4), context)) == [[0, 1, 2, 3]] * 2
