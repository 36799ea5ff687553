"""Adds up what one HTTP request cost the engine, over all the calls it made: the source of its outcome.

What must not live here: vLLM's types (vllm_engine.py reads them), how the sum is sent (side_channel.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.core.outcome import ReplicaOutcome

TIME_DIGITS = 6
"""Microseconds; more would be noise in every answer's header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """When the engine core did what, in seconds of its own monotonic clock; 0 is not yet."""

    queued_s: float
    scheduled_s: float
    first_token_s: float
    last_token_s: float


@dataclass(slots=True, kw_only=True)
class CallTally:
    """One call of the engine: one prompt, one or more choices."""

    number: int
    """Calls are numbered in the order they are made, which is the order of a request's prompts."""
    choices: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: dict[int, int] = field(default_factory=dict)
    """By choice."""
    stamps: dict[int, Stamps] = field(default_factory=dict)
    """By choice: of its latest output."""
    seen: bool = False


class Tally:
    """The sum over one request's calls.

    Args:
        keeps_ids: whether generated token ids are kept until `take_ids`.
        is_beam_search: calls are steps then, and their outputs are not the answer's; see `adopt`.
    """

    def __init__(self, *, keeps_ids: bool = False, is_beam_search: bool = False) -> None:
        self._keeps_ids = keeps_ids and not is_beam_search
        self._is_beam_search = is_beam_search
        self._calls: list[CallTally] = []
        self._ids: dict[int, list[list[int]]] = {}
        """By choice: the tokens of each output."""
        self._adopted: tuple[int, int] | None = None

    def begin(self, choices: int) -> CallTally:
        """Count a further call of the engine, for `choices` answers to one prompt."""
        call = CallTally(number=len(self._calls), choices=choices)
        self._calls.append(call)
        return call

    def prompt(self, call: CallTally, *, prompt_tokens: int, cached_tokens: int) -> None:
        """What the first output of a call says of its prompt.

        Later outputs may belong to other choices, which found the prompt that the first one had computed.
        """
        if not call.seen:
            call.seen = True
            call.prompt_tokens, call.cached_tokens = prompt_tokens, cached_tokens

    def output(
        self, call: CallTally, choice: int, ids: Sequence[int], *, is_delta: bool, stamps: Stamps | None
    ) -> None:
        """One output of one choice: `ids` are its new tokens, or all of them where the engine repeats itself."""
        known = call.output_tokens.get(choice, 0)
        new = ids if is_delta else ids[known:]
        call.output_tokens[choice] = known + len(new)
        if stamps is not None:
            call.stamps[choice] = stamps
        if self._keeps_ids and new:
            self._ids.setdefault(call.number * call.choices + choice, []).append(list(new))

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take the tokens of a beam search from the count that vLLM leaves in the request's ASGI state.

        Its steps ask for one token of every beam; the answer has the tokens of the best beams only.
        """
        usage = getattr(state.get("request_metadata"), "final_usage_info", None)
        if self._is_beam_search and usage is not None:
            self._adopted = (usage.prompt_tokens or 0, usage.completion_tokens or 0)

    @property
    def has_choices(self) -> bool:
        """Whether tokens are of more than one answer, so that each has to be told apart."""
        return len(self._calls) > 1 or any(call.choices > 1 for call in self._calls)

    def take_ids(self, choice: int | None = None) -> list[tuple[int, list[int]]]:
        """Choices with the token ids of each output for them since the last call; empty when there are none.

        Args:
            choice: of this one alone; None: of all.
        """
        if not self._ids:
            return []
        if choice is not None:
            return [(choice, ids) for ids in self._ids.pop(choice, ())]
        taken, self._ids = self._ids, {}
        return [(number, ids) for number, groups in sorted(taken.items()) for ids in groups]

    def outcome(self) -> ReplicaOutcome:
        """The sum so far."""
        calls = self._calls[:1] if self._is_beam_search else self._calls
        prompt_tokens = sum(call.prompt_tokens for call in calls)
        output_tokens = sum(sum(call.output_tokens.values()) for call in calls)
        if self._adopted is not None:
            prompt_tokens, output_tokens = self._adopted
        queue_s, prefill_s, decode_s = _times([stamp for call in self._calls for stamp in call.stamps.values()])
        return ReplicaOutcome(
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            cached_tokens=sum(call.cached_tokens for call in calls),
            queue_s=queue_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
        )


def _times(stamps: Sequence[Stamps]) -> tuple[float, float, float]:
    """Queue, prefill and decode of the request as a whole: each ends with the first, or last, of its parts."""
    queued_s = min((stamp.queued_s for stamp in stamps if stamp.queued_s), default=0.0)
    scheduled_s = min((stamp.scheduled_s for stamp in stamps if stamp.scheduled_s), default=0.0)
    first_s = min((stamp.first_token_s for stamp in stamps if stamp.first_token_s), default=0.0)
    last_s = max((stamp.last_token_s for stamp in stamps), default=0.0)
    return _span(queued_s, scheduled_s), _span(scheduled_s, first_s), _span(first_s, last_s)


def _span(start_s: float, end_s: float) -> float:
    return round(max(end_s - start_s, 0.0), TIME_DIGITS) if start_s and end_s else 0.0
