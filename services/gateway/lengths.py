"""What a replica's own count of a prompt teaches.

What must not live here: estimating (estimate.py), counting (tokens.py).
"""

from __future__ import annotations

from cluster.core import wire
from cluster.core.prompt import CountKind, PromptTokens
from cluster.core.request import ContextNeed
from cluster.core.routing import Choice
from services.gateway.places import Case
from services.gateway.tokens import PromptCounter
from services.gateway.upstream import UpstreamAnswer


def told_length(case: Case, choice: Choice, answer: UpstreamAnswer, counter: PromptCounter) -> ContextNeed:
    """The need as it stands after a replica counted the prompt exactly."""
    need, pool = case.need, choice.endpoint.pool
    case.attempts.refused_by(choice)
    told = answer.headers.get(wire.HEADER_PROMPT_TOKENS, "")
    if told.isascii() and told.isdigit():
        taught = lesson(case)
        if taught is not None:
            counter.learn(case.resolved.model.section.id, taught, int(told))
        prompt = PromptTokens(tokens=int(told), kind=CountKind.EXACT)
    else:
        limit = next(known.context_tokens for known in case.pools if known.name == pool)
        over_tokens = limit - choice.output_tokens + 1
        prompt = PromptTokens(tokens=max(need.prompt_tokens, over_tokens), kind=CountKind.ABOUT)
    return ContextNeed(
        prompt_tokens=prompt.tokens,
        output_tokens=need.output_tokens,
        is_explicit=need.is_explicit,
        count=prompt.kind,
    )


def lesson(case: Case) -> PromptTokens | None:
    """The estimate that a true length teaches; None where the engine may cut the prompt, or nothing is to learn."""
    is_cut = case.ask.request.truncate_prompt_tokens is not None
    return None if is_cut or case.prompt.features is None else case.prompt
