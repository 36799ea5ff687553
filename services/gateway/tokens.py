"""How many tokens a prompt has, as far as routing needs to know, and at the least cost that tells.

In the order tried. On the event loop: a bound that is proven (a byte-level tokenizer never makes more tokens than
bytes); an interval learned from prompts whose length became known, where no pool's limit lies in it. In a worker
thread: an interval from a tokenized sample of the prompt; the exact count. What must not live here: choosing a pool,
HTTP, how learning works (cluster/core/budget).
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from cluster.core.budget.features import SLICE_CHARS, PromptFeatures
from cluster.core.budget.learner import TokenInterval, TokenLearner
from cluster.core.prompt import Conversation, CountKind, Prompt, PromptTokens, Texts, TokenIds
from services.gateway.bounds import proven_bound, tiny_bound
from services.gateway.estimate import Reading, read
from services.gateway.tokenizer import Counting, load_counting

TOKENIZER_THREADS = 2
"""Long prompts tokenized at once. Each takes a core for about 50 ms per 100k tokens, and the event loop needs one."""
TOKENIZER_NICENESS = 5
"""A tenth of the event loop's share of a core, where they have to share one."""
INLINE_TOKENIZE_CHARS = 1024
"""Tokenizing this much takes some 0.2 ms: a thread hop costs as much."""
LEAST_SAMPLED_CHARS = 4_096
"""Shorter prompts are counted whole where it matters: that takes a millisecond."""
SAMPLED_PART = 2
"""A tokenized sample is at most one part in so many: of more, counting everything costs little more and is exact."""
FEW_SAMPLED_SLICES = 64
"""Tokenized first: 4 KiB are off by 2% as a standard deviation, which decides for all but prompts near a limit."""
MAX_SAMPLED_SLICES = 256
"""Then this: 16 KiB are off by 1.3%, but take 3 ms of a worker thread, and 7 ms of Chinese."""
HOPELESS_RATIO = 3.0
"""A prompt surely this many times over the largest pool is not counted: a replica would refuse it before the engine
does, and routing sends no estimate that is twice too long (cluster/core/routing)."""
ROUGH_BOUND_TOKENS = 4_096
"""Prompts bound by this are small: their work need not be known well, and looking at them costs more than it tells."""
USUAL_BYTES_PER_TOKEN = 4
"""Of prose and code, for the work of prompts that are known to be small; nothing is decided by it."""
EAGER_LESSONS = 4_096
LATER_EVERY = 16
"""A model's first prompts all teach; later every 16th does, which follows a change of traffic well enough and takes the
0.1 ms of a lesson from the others."""
MAX_LEARNERS = 64
"""Models that learn: about 0.5 MiB each when all classes of text were seen. Models come from the configuration only."""


class PromptCounter:
    """Counts prompts of every model, exactly for those that have a folder here."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(
            max_workers=TOKENIZER_THREADS, thread_name_prefix="tokenizer", initializer=_yield_to_others
        )
        self._folders: dict[str, Path] = {}
        self._loading: dict[Path, asyncio.Future[Counting | None]] = {}
        self._learners: dict[str, TokenLearner] = {}
        self._lessons: dict[str, int] = {}

    def use(self, folders: Mapping[str, Path]) -> None:
        """Tell where each model's tokenizer is, and start to load what is new."""
        self._folders = dict(folders)
        empty = [folder for folder, loading in self._loading.items() if loading.done() and loading.result() is None]
        for folder in empty:
            del self._loading[folder]  # its tokenizer may have arrived since
        for folder in self._folders.values():
            self._load(folder)

    async def ready(self) -> None:
        """Wait until every tokenizer is loaded."""
        await asyncio.gather(*self._loading.values())

    def close(self) -> None:
        """Stop the worker threads; a count in progress finishes first."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def quick(self, model_id: str, prompt: Prompt | None, boundaries: Sequence[int]) -> PromptTokens | None:
        """The length of `prompt` where no tokenizing is needed to choose a pool; None where it is: call `exact`.

        Args:
            model_id: the model's id in the configuration.
            prompt: what to count; None counts as empty.
            boundaries: for each pool, the most prompt tokens that it takes; at least one.
        """
        if prompt is None:
            return PromptTokens(tokens=0, kind=CountKind.EXACT)
        if isinstance(prompt, TokenIds):
            return PromptTokens(tokens=prompt.longest_tokens, kind=CountKind.EXACT)
        folder = self._folders.get(model_id)
        loading = None if folder is None else self._load(folder)
        if loading is not None and not loading.done():
            return None
        counting = None if loading is None else loading.result()
        if counting is None or counting.wrapping is not None:
            tiny = tiny_bound(prompt, min(*boundaries, ROUGH_BOUND_TOKENS))
            if tiny is not None:
                return tiny
        readings = read(prompt)
        bounded = None if counting is None else self._bounded(model_id, counting, prompt, readings, min(boundaries))
        if bounded is not None or readings is None:
            return bounded
        return self._decide(model_id, readings, boundaries, must_decide=counting is None)

    async def exact(self, model_id: str, prompt: Prompt | None, boundaries: Sequence[int] = ()) -> PromptTokens:
        """The length of `prompt`, as exactly as it can be known here, in a worker thread.

        Args:
            model_id: as in `quick`.
            prompt: as in `quick`.
            boundaries: as in `quick`; an interval from a tokenized sample is answer enough where none lies in it.
                None given: the exact length is wanted.
        """
        if prompt is None or isinstance(prompt, TokenIds):
            return PromptTokens(tokens=0 if prompt is None else prompt.longest_tokens, kind=CountKind.EXACT)
        folder = self._folders.get(model_id)
        # Shielded: a client that leaves must not cancel the loading that others wait for.
        counting = None if folder is None else await asyncio.shield(self._load(folder))
        readings = read(prompt)
        if counting is None:
            return self._estimated(model_id, prompt, readings, boundaries)
        loop = asyncio.get_running_loop()
        features: PromptFeatures | None = None
        if readings is not None and len(readings) == 1 and not readings[0].has_media:
            features = readings[0].features()
            texts = readings[0].texts
            chars = sum(map(len, texts))
            sizes = _sample_sizes(chars) if boundaries and features.is_plain else ()
            for slices in sizes:
                messages = readings[0].messages
                sampled = await loop.run_in_executor(self._threads, counting.sampled, texts, messages, slices)
                features = replace(features, sampled_tokens=sampled, sampled_slices=slices)
                decided = _decided(self._learner(model_id).estimate(features), boundaries)
                if decided is not None:
                    return replace(decided, features=features)
            if chars <= INLINE_TOKENIZE_CHARS:
                return self._taught(model_id, prompt, features, _count(counting, prompt), boundaries)
        tokens = await loop.run_in_executor(self._threads, _count, counting, prompt)
        return self._taught(model_id, prompt, features, tokens, boundaries)

    def text(self, model_id: str, prompt: Prompt | None) -> str | None:
        """What the engine will read, on the event loop: a template takes 0.1 ms, and 4 µs a message.

        None where that is not one text, or not known here.
        """
        folder = self._folders.get(model_id)
        loading = None if folder is None else self._load(folder)
        if loading is None or not loading.done() or not isinstance(prompt, (Conversation, Texts)):
            return None
        counting = loading.result()
        rendered = None if counting is None else counting.rendered(prompt)
        if counting is None or rendered is None or len(rendered.texts) != 1:
            return None
        return (counting.opening if rendered.add_special_tokens else "") + rendered.texts[0]

    def learn(self, model_id: str, counted: PromptTokens, prompt_tokens: int) -> None:
        """Take in the true length of a prompt that `quick` or `exact` gave `counted` for.

        Only for lengths of the whole prompt: not where the client let it be cut.
        """
        if counted.features is None:
            return
        lessons = self._lessons[model_id] = self._lessons.get(model_id, 0) + 1
        if lessons <= EAGER_LESSONS or lessons % LATER_EVERY == 0:
            self._learner(model_id).learn(counted.features, prompt_tokens)

    def _load(self, folder: Path) -> asyncio.Future[Counting | None]:
        loading = self._loading.get(folder)
        if loading is None:
            loop = asyncio.get_running_loop()
            loading = self._loading[folder] = loop.run_in_executor(self._threads, load_counting, folder)
        return loading

    def _learner(self, model_id: str) -> TokenLearner:
        learner = self._learners.get(model_id)
        if learner is None:
            if len(self._learners) >= MAX_LEARNERS:
                del self._learners[next(iter(self._learners))]
            learner = self._learners[model_id] = TokenLearner()
        return learner

    def _bounded(
        self,
        model_id: str,
        counting: Counting,
        prompt: Conversation | Texts,
        readings: Sequence[Reading] | None,
        enough_tokens: int,
    ) -> PromptTokens | None:
        """A proven bound within `enough_tokens`, and what is likely below it."""
        bound = proven_bound(counting, prompt, readings, enough_tokens)
        if bound is None:
            return None
        about = None
        if bound > ROUGH_BOUND_TOKENS and readings is not None:
            about = self._decide(model_id, readings, (), must_decide=True)
        if about is None or about.expected_tokens is None:
            likely = -(-bound // USUAL_BYTES_PER_TOKEN)
            return PromptTokens(tokens=bound, kind=CountKind.AT_MOST, expected_tokens=likely)
        likely = min(about.expected_tokens, bound)
        return PromptTokens(tokens=bound, kind=CountKind.AT_MOST, expected_tokens=likely, features=about.features)

    def _decide(
        self, model_id: str, readings: Sequence[Reading], boundaries: Sequence[int], *, must_decide: bool
    ) -> PromptTokens | None:
        """The learned interval, where it says enough or has to."""
        learner = self._learner(model_id)
        features = [reading.features() for reading in readings]
        interval = _longest([learner.estimate(each) for each in features])
        decided = _near(interval, boundaries) if must_decide else _decided(interval, boundaries)
        if decided is None or len(readings) != 1 or readings[0].has_media:
            return decided
        return replace(decided, features=features[0])

    def _estimated(
        self,
        model_id: str,
        prompt: Conversation | Texts,
        readings: Sequence[Reading] | None,
        boundaries: Sequence[int],
    ) -> PromptTokens:
        if readings is None:
            assert isinstance(prompt, Texts)
            longest = max(prompt.texts, key=len)
            readings = (Reading(texts=[longest], messages=0, is_plain=False, has_media=True),)
        decided = self._decide(model_id, readings, boundaries, must_decide=True)
        assert decided is not None
        return decided

    def _taught(
        self,
        model_id: str,
        prompt: Conversation | Texts,
        features: PromptFeatures | None,
        tokens: int | None,
        boundaries: Sequence[int],
    ) -> PromptTokens:
        """An exact count, after it taught; what a converted prompt really was, only the replica can teach."""
        if tokens is None:
            return self._estimated(model_id, prompt, read(prompt), boundaries)
        if not prompt.is_faithful:
            return PromptTokens(tokens=tokens, kind=CountKind.ABOUT, features=features)
        if features is not None:
            self._learner(model_id).learn(features, tokens)
        return PromptTokens(tokens=tokens, kind=CountKind.EXACT)


def _yield_to_others() -> None:
    """Let the event loop's thread go first where both want one core, so that a count delays no stream."""
    if sys.platform == "linux":  # where each thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), TOKENIZER_NICENESS)


def _sample_sizes(chars: int) -> tuple[int, ...]:
    """In how many slices to sample a text that is so long, in turn, until that decides."""
    if chars < LEAST_SAMPLED_CHARS:
        return ()
    most = min(chars // (SAMPLED_PART * SLICE_CHARS), MAX_SAMPLED_SLICES)
    return (FEW_SAMPLED_SLICES, most) if most > FEW_SAMPLED_SLICES else (most,)


def _decided(interval: TokenInterval, boundaries: Sequence[int]) -> PromptTokens | None:
    """The estimate, where it can be trusted and every length in the interval leads to the same pools."""
    if not interval.is_learned or any(
        interval.low_tokens <= boundary < interval.high_tokens for boundary in boundaries
    ):
        return None
    largest = max(boundaries)
    if interval.low_tokens <= largest:
        return _about(interval, interval.high_tokens)
    # Too long for all: refused with its true length, or not worth counting.
    return _about(interval, interval.low_tokens) if interval.low_tokens > HOPELESS_RATIO * largest else None


def _near(interval: TokenInterval, boundaries: Sequence[int]) -> PromptTokens:
    """The estimate where nothing better can be had: its upper end, unless only that is over the largest pool."""
    fits_tokens = interval.high_tokens
    largest = max(boundaries, default=fits_tokens)
    if fits_tokens > largest:
        fits_tokens = max(interval.likely_tokens, largest)
    return _about(interval, fits_tokens)


def _about(interval: TokenInterval, fits_tokens: int) -> PromptTokens:
    return PromptTokens(
        tokens=fits_tokens,
        kind=CountKind.ABOUT,
        expected_tokens=interval.likely_tokens,
        low_tokens=interval.low_tokens,
        high_tokens=interval.high_tokens,
    )


def _longest(intervals: Sequence[TokenInterval]) -> TokenInterval:
    """The interval of the longest of several prompts."""
    return TokenInterval(
        low_tokens=max((interval.low_tokens for interval in intervals), default=0),
        likely_tokens=max((interval.likely_tokens for interval in intervals), default=0),
        high_tokens=max((interval.high_tokens for interval in intervals), default=0),
        is_learned=all(interval.is_learned for interval in intervals),
    )


def _count(counting: Counting, prompt: Conversation | Texts) -> int | None:
    """The exact length; None where the template cannot tell what the engine reads."""
    rendered = counting.rendered(prompt)
    return None if rendered is None else counting.longest(rendered)
