"""The one use case: take a decoded request, find who serves it, and hand over an answer whose first bytes are here.

It reads as the request's story: model, output budget, prompt length, quota, pool and endpoint, a place, attempts. REST
calls it now and gRPC will. What must not live here: HTTP from the client's side, sentences for clients, tokenizing,
connections, who may ask (authentication comes before).
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from cluster.core.outcome import ReplicaOutcome
from cluster.core.prompt import CountKind, PromptTokens
from cluster.core.quota import Granted, Refused
from cluster.core.request import ContextNeed, InferenceRequest, OverCap, context_need, growing, output_need
from cluster.core.routing import Decision, NoEndpoint, Pool, Saturated, TooLong, session_hash
from cluster.state.quotas import Quotas
from services.gateway.ask import Ask
from services.gateway.asking import Answered, Asking
from services.gateway.attempts import Attempts
from services.gateway.boundary import Boundaries
from services.gateway.catalog import Catalog, Resolved
from services.gateway.current import Current
from services.gateway.directory import Directory
from services.gateway.lengths import lesson
from services.gateway.metric_labels import PromptCounted
from services.gateway.metrics import Metrics
from services.gateway.open_answers import OpenAnswers
from services.gateway.outcome import Outcome, OverQuota, Served, UnknownModel
from services.gateway.places import Case, Claim, Places
from services.gateway.prefix import LEAST_TOKENS, prefix_of
from services.gateway.residency import Residency
from services.gateway.resuming import ResumableAnswer
from services.gateway.resumption import DRAWS_BITS, Resumption, draws_ids, is_resumable, may_grow
from services.gateway.succession import Succession
from services.gateway.tokens import PromptCounter
from services.gateway.upstream import UpstreamAnswer

_HOW_COUNTED = {
    CountKind.EXACT: PromptCounted.GIVEN,
    CountKind.AT_MOST: PromptCounted.BOUND,
    CountKind.ABOUT: PromptCounted.INTERVAL,
}


class _Target(NamedTuple):
    """What the client's `model` stands for, in the configuration as it was when the request came."""

    catalog: Catalog
    resolved: Resolved
    pools: tuple[Pool, ...]


class _Counted(NamedTuple):
    """What a request needs."""

    need: ContextNeed
    prompt: PromptTokens
    most_tokens: int | None = None
    """The output it may have in all, where it may outgrow a pool that holds its need."""


class Dispatcher:
    """Finds who serves a request."""

    def __init__(
        self,
        *,
        current: Current,
        directory: Directory,
        residency: Residency,
        counter: PromptCounter,
        metrics: Metrics,
        places: Places,
        quotas: Quotas,
        boundaries: Boundaries,
        asking: Asking,
        succession: Succession,
        open_answers: OpenAnswers,
        rng: random.Random,
    ) -> None:
        self._current = current
        self._directory = directory
        self._residency = residency
        self._counter = counter
        self._metrics = metrics
        self._places = places
        self._quotas = quotas
        self._boundaries = boundaries
        self._asking = asking
        self._succession = succession
        self._open = open_answers
        self._rng = rng

    async def find(self, ask: Ask) -> Outcome:
        """What becomes of a request. A `Served` answer must be handed to `release` in the end."""
        target = self._target(ask.request)
        if isinstance(target, UnknownModel):
            return target
        counted = await self._need(ask, target)
        if isinstance(counted, OverCap):
            return counted
        need = counted.need
        self._places.requested(ask.arrived_s)
        granted = await self._charge(ask, need)
        if isinstance(granted, OverQuota):
            return granted
        case = self._case(ask, target, counted)
        outcome: Outcome | None = None
        try:
            outcome = await self._try(case)
        finally:
            if granted is not None and not isinstance(outcome, Served):
                self._quotas.settle(ask.identity.tenant, granted, 0)
        if isinstance(outcome, Served):
            outcome.granted = granted
        return outcome

    def release(self, served: Served, told: ReplicaOutcome | None) -> None:
        """Let go of the answer; one that is not complete is aborted.

        Args:
            served: the answer.
            told: what the engine counted; None where it did not, then what a tenant was charged stands.
        """
        served.answer.close()
        self._open.ended(served.choice.endpoint.replica_id, served.answer)
        self._places.freed(served.choice)
        if told is None:
            return
        self._places.ended(served.choice, told.output_tokens)
        self._boundaries.ended(served, told)
        if served.prompt is not None:
            self._counter.learn(served.model_id, served.prompt, told.prompt_tokens)
        if served.granted is not None:
            self._quotas.settle(served.tenant, served.granted, told.prompt_tokens + told.output_tokens)

    async def explain(self, ask: Ask) -> UnknownModel | OverCap | Decision | TooLong | NoEndpoint | Saturated:
        """Decide as for a real request, in full words, and send nothing."""
        target = self._target(ask.request)
        if isinstance(target, UnknownModel):
            return target
        counted = await self._need(ask, target)
        if isinstance(counted, OverCap):
            return counted
        return self._places.route(self._case(ask, target, counted), explains=True)

    def _target(self, request: InferenceRequest) -> _Target | UnknownModel:
        catalog = self._current.catalog
        resolved = catalog.resolve(request.model)
        if resolved is None:
            return UnknownModel(name=request.model, known=catalog.names())
        return _Target(catalog, resolved, self._directory.pools(resolved.model))

    async def _need(self, ask: Ask, target: _Target) -> _Counted | OverCap:
        request, resolved, pools = ask.request, target.resolved, target.pools
        policy = resolved.model.policy
        output = output_need(request, policy)
        if isinstance(output, OverCap):
            return output
        model_id = resolved.model.section.id
        largest = max(pool.context_tokens for pool in pools)
        boundaries = [pool.context_tokens - output[0] for pool in pools]
        grows = policy.grows and may_grow(ask, target.catalog, pools)
        if grows:
            boundaries += [pool.context_tokens - min(output[0], policy.default_tokens) for pool in pools]
        prompt = self._counter.quick(model_id, request.prompt, boundaries)
        if prompt is None:
            prompt = await self._counter.exact(model_id, request.prompt, boundaries)
            is_exact = prompt.kind is CountKind.EXACT
            self._metrics.counted(PromptCounted.TOKENIZED if is_exact else PromptCounted.SAMPLED)
        else:
            self._metrics.counted(_HOW_COUNTED[prompt.kind])
        need = context_need(request, prompt=prompt, output=output, largest_context_tokens=largest)
        if not grows:
            return _Counted(need, prompt)
        at_first, most_tokens = growing(need, policy, largest_context_tokens=largest)
        return _Counted(at_first, prompt, most_tokens)

    async def _charge(self, ask: Ask, need: ContextNeed) -> Granted | OverQuota | None:
        tenant = ask.identity.tenant
        if not self._quotas.needs_check(tenant):
            return None
        taken = await self._quotas.take(tenant, need.total_tokens)
        if isinstance(taken, Refused):
            return OverQuota(limit=taken.limit, retry_after_s=max(1, math.ceil(taken.retry_after_s)))
        return taken

    def _case(self, ask: Ask, target: _Target, counted: _Counted) -> Case:
        session = None if ask.session is None else session_hash(ask.identity.tenant.name, ask.session)
        need = counted.need
        prefix = None
        if need.expected_prompt_tokens >= LEAST_TOKENS and self._residency.is_useful(target.resolved.model.section.id):
            text = self._counter.text(target.resolved.model.section.id, ask.request.prompt)
            prefix = prefix_of(text, salt=ask.cache_salt, adapter=target.resolved.adapter)
        return Case(
            ask=ask,
            catalog=target.catalog,
            resolved=target.resolved,
            pools=target.pools,
            need=need,
            prompt=counted.prompt,
            grows_tokens=counted.most_tokens,
            session=session,
            profile=self._places.profile_of(target.catalog),
            attempts=Attempts(),
            prefix=prefix,
            draws=f"{self._rng.getrandbits(DRAWS_BITS):032x}" if draws_ids(ask.request) else None,
        )

    async def _try(self, case: Case) -> Outcome:
        """Attempts, one after another, until one answers or nobody is left."""
        found = await self._asking.answer(case)
        if not isinstance(found, Answered):
            return found
        served = self._served(case, found.claim, found.answer)
        if is_resumable(case, found.claim.choice, found.answer):
            resumption = Resumption(case, served, self._succession)
            served.answer = ResumableAnswer(found.answer, resumption.journal, resumption)
        self._open.opened(found.claim.choice.endpoint.replica_id, served.answer)
        return served

    def _served(self, case: Case, claim: Claim, answer: UpstreamAnswer) -> Served:
        choice = claim.choice
        home = next(iter(choice.case.fits))
        if choice.endpoint.pool != home:
            self._metrics.spilled(home, choice.endpoint.pool)
        self._metrics.decided(case.decision_s)
        self._metrics.admitted(choice.endpoint.pool, case.waited_s)
        return Served(
            answer=answer,
            choice=choice,
            decision=claim.decision,
            attempts=case.attempts.sent,
            prompt_tokens=case.need.prompt_tokens,
            decision_s=case.decision_s,
            waited_s=case.waited_s,
            tenant=case.ask.identity.tenant,
            model=case.resolved.engine_name,
            model_id=case.resolved.model.section.id,
            prompt=lesson(case),
            is_static=case.catalog.static(choice.endpoint.replica_id) is not None,
        )
