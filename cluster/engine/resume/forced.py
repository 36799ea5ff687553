"""The logits processor that makes an engine generate given tokens first: vLLM loads it by name.

One class for both of vLLM's model runners, since which of them runs is vLLM's own choice. The first (CPUs, and GPUs
where the second lacks something) is tested here; the second never ran, there is no GPU. What must not live here: which
requests need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as FirstRunners
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SecondRunners

from cluster.engine.resume.forcing import ARGUMENT

if TYPE_CHECKING:
    import torch
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

NEVER = float("-inf")


class ForcedTokens(FirstRunners, SecondRunners):  # type: ignore[misc]
    """Leaves one token possible at each step, for the requests that ask for it, until their tokens are used up.

    Grammars work before it, so they may have ruled the token out; it is possible again. Penalties come after it, and
    change nothing where one token is left. Log probabilities of raw logits are taken before it.
    """

    def __init__(self, vllm_config: Any, where: Any, is_pin_memory: bool | None = None) -> None:  # noqa: FBT001 - vLLM's
        """As either runner makes it.

        Args:
            vllm_config: not needed.
            where: a device of the first runner, the requests' state of the second.
            is_pin_memory: of the first alone.
        """
        del vllm_config
        self._requests: Any = None if is_pin_memory is not None else where
        self._forced: dict[int, tuple[list[int], list[int]]] = {}
        """By place in the batch, or by slot: what is forced, and what is there of it (first runner)."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Every request is fine: only this cluster's own code sets the argument."""

    def is_argmax_invariant(self) -> bool:
        """It changes which token is the likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """First runner: requests came, went or moved."""
        process_dict_updates(self._forced, batch_update, lambda params, _, made: _entry(params, made))

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Second runner: a request takes this slot."""
        entry = _entry(sampling_params, [])
        self._forced.pop(req_idx, None)
        if entry is not None:
            self._forced[req_idx] = entry
        return entry is not None

    def apply(self, logits: torch.Tensor, ctx: LogitsContext | None = None) -> torch.Tensor:
        """Rule out all tokens but the next one of each such request."""
        if not self._forced:
            return logits
        if ctx is None:
            for row, (ids, made) in self._forced.items():
                _force(logits, row, ids, len(made))
            return logits
        for row, slot in enumerate(ctx.idx_mapping_np):
            entry = self._forced.get(int(slot))
            if entry is not None:
                prompt_tokens = int(self._requests.prompt_len.np[int(slot)])
                _force(logits, row, entry[0], int(ctx.seq_lens_upper_bound_np[row]) - prompt_tokens)
        return logits


def _entry(params: SamplingParams, made: list[int]) -> tuple[list[int], list[int]] | None:
    ids = (params.extra_args or {}).get(ARGUMENT)
    return (ids, made) if ids else None


def _force(logits: torch.Tensor, row: int, ids: list[int], made: int) -> None:
    if 0 <= made < len(ids):
        logits[row].fill_(NEVER)
        logits[row, ids[made]] = 0.0
