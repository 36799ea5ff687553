"""What the accounting takes from the pinned vLLM: its outputs, its statistics, its own count; one test for each.

As in test_vllm_seams.py, vLLM is imported and never started. A failure after a new pin means: look at the module named.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core import wire
from cluster.core.autoscaling.work import WorkMeter
from cluster.core.outcome import ReplicaOutcome
from cluster.core.request import Route
from cluster.engine.asgi import App
from cluster.engine.call import CURRENT_CALL, Call
from cluster.engine.checked import checked_engine
from cluster.engine.tally import Tally
from cluster.engine.vllm_engine import Load, VllmEngine

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive, send


APP: App = nothing


def request_output(ids: list[int], *, index: int = 0, finished: bool = False, cached: int = 0) -> Any:
    """As the engine gives them, with the parts that are read."""
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.metrics.stats import RequestStateStats

    stats = RequestStateStats(queued_ts=1.0, scheduled_ts=1.5, first_token_ts=3.5, last_token_ts=4.0)
    output = CompletionOutput(index=index, text="", token_ids=ids, cumulative_logprob=None, logprobs=None)
    return RequestOutput("r1", None, [1] * 9, None, [output], finished, metrics=stats, num_cached_tokens=cached)


def checked(outputs: list[Any]) -> Any:
    """The engine's wrapper over an engine that gives `outputs`."""
    from vllm.v1.engine.async_llm import AsyncLLM

    made = checked_engine()
    assert made.__mro__[1] is AsyncLLM

    class Scripted(AsyncLLM):  # type: ignore[misc]
        async def generate(self, prompt: Any, params: Any, request_id: str) -> AsyncGenerator[Any, None]:
            del prompt, params, request_id
            for output in outputs:
                yield output

        async def encode(self, prompt: Any, pooling_params: Any, request_id: str) -> AsyncGenerator[Any, None]:
            del prompt, pooling_params, request_id
            for output in outputs:
                yield output

    kind = type("Checked", (made, Scripted), {"__del__": lambda _: None})
    engine = object.__new__(kind)
    engine.model_config = SimpleNamespace(is_encoder_decoder=False, max_model_len=100)
    return engine


async def counted(outputs: list[Any], params: Any, *, tally: Tally | None = None) -> tuple[list[Any], Tally]:
    call = Call(tally=tally or Tally())
    token = CURRENT_CALL.set(call)
    try:
        generator = checked(outputs).generate({"prompt_token_ids": [1] * 9}, params, "r1")
        return [output async for output in generator], call.tally
    finally:
        CURRENT_CALL.reset(token)


async def test_deltas_are_added_up() -> None:
    """cluster/engine/vllm_engine.py, `counted`: streams get DELTA outputs from vLLM's own servers."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(n=2, output_kind=RequestOutputKind.DELTA)
    outputs = [request_output([5], cached=4), request_output([6, 7], index=1, cached=8), request_output([8])]
    passed, tally = await counted(outputs, params, tally=Tally(keeps_ids=True))
    assert passed == outputs
    assert tally.outcome() == ReplicaOutcome(
        prompt_tokens=9, output_tokens=4, cached_tokens=4, queue_s=0.5, prefill_s=2.0, decode_s=0.5
    )
    assert tally.take_ids() == [(0, [5]), (0, [8]), (1, [6, 7])]


async def test_repeated_outputs_are_not_added_twice() -> None:
    """cluster/engine/vllm_engine.py, `counted`: the default kind repeats all tokens with each output."""
    from vllm import SamplingParams

    _, tally = await counted([request_output([5]), request_output([5, 6, 7])], SamplingParams())
    assert tally.outcome().output_tokens == 3


async def test_pooling_outputs_count_their_prompts() -> None:
    """cluster/engine/vllm_engine.py, `pooled`: embeddings and rerank call `encode` with keyword arguments."""
    from vllm.outputs import PoolingRequestOutput

    call = Call()
    token = CURRENT_CALL.set(call)
    try:
        for tokens in (3, 4):
            outputs = [PoolingRequestOutput("r1", None, [1] * tokens, 2, True)]
            async for _ in checked(outputs).encode(prompt=None, pooling_params=None, request_id="r1"):
                pass
    finally:
        CURRENT_CALL.reset(token)
    assert call.tally.outcome() == ReplicaOutcome(prompt_tokens=7, output_tokens=0, cached_tokens=4)


def test_encode_is_an_async_generator() -> None:
    """cluster/engine/vllm_engine.py overrides it with a plain function."""
    from vllm.v1.engine.async_llm import AsyncLLM

    assert inspect.isasyncgenfunction(AsyncLLM.encode)


def test_the_engines_stamps_share_one_clock() -> None:
    """cluster/engine/vllm_engine.py, `_stamps`: differences of them are durations, as in vLLM's own metrics."""
    from vllm.v1.metrics.stats import RequestStateStats

    assert {"queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts"} <= {
        field.name for field in dataclasses.fields(RequestStateStats)
    }
    source = inspect.getsource(RequestStateStats)
    assert "engine core timestamps (monotonic)" in source


def test_prompts_without_a_first_token_are_known() -> None:
    """cluster/engine/vllm_engine.py, `prefill_tokens`: read from the output processor's request states."""
    from vllm.v1.engine.output_processor import OutputProcessor, RequestState

    parameters = inspect.signature(RequestState.__init__).parameters
    assert {"parent_req", "prompt_token_ids"} <= parameters.keys()
    source = inspect.getsource(RequestState)
    assert all(f"self.{name} = " in source for name in ("is_prefilling", "prompt_len", "parent_req"))
    assert "self.request_states: dict[str, RequestState]" in inspect.getsource(OutputProcessor)
    parent = object()

    def state(tokens: int, *, is_prefilling: bool = True, parent_req: object = None) -> Any:
        return SimpleNamespace(prompt_len=tokens, is_prefilling=is_prefilling, parent_req=parent_req)

    states = [
        state(100),
        state(7, is_prefilling=False),
        state(20, parent_req=parent),
        state(20, parent_req=parent),
        state(100),
    ]
    processor = SimpleNamespace(request_states=dict(enumerate(states)))
    engine = SimpleNamespace(output_processor=processor)
    assert VllmEngine(engine=engine, app=APP, load=Load(), meter=WorkMeter()).prefill_tokens == 220


def test_vllm_leaves_its_own_count_in_the_requests_state() -> None:
    """cluster/engine/tally.py, `adopt`: the only count of a beam search's answer."""
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion

    for kind in (OpenAIServingChat, OpenAIServingCompletion):
        source = inspect.getsource(kind)
        assert "raw_request.state.request_metadata = request_metadata" in source
        assert "request_metadata.final_usage_info = " in source


def body_fields(route: Route) -> set[str]:
    """What vLLM's own request of this route takes."""
    from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.pooling.embed.protocol import EmbeddingCompletionRequest
    from vllm.entrypoints.pooling.scoring.protocol import RerankRequest
    from vllm.entrypoints.serve.tokenize.protocol import DetokenizeRequest, TokenizeCompletionRequest

    kinds: dict[Route, Any] = {
        Route.CHAT: ChatCompletionRequest,
        Route.COMPLETIONS: CompletionRequest,
        Route.RESPONSES: ResponsesRequest,
        Route.MESSAGES: AnthropicMessagesRequest,
        Route.EMBEDDINGS: EmbeddingCompletionRequest,
        Route.RERANK: RerankRequest,
        Route.TOKENIZE: TokenizeCompletionRequest,
        Route.DETOKENIZE: DetokenizeRequest,
    }
    return set(kinds[route].model_fields)


@pytest.mark.parametrize("route", Route)
def test_where_salts_and_priorities_go(route: Route) -> None:
    """cluster/core/wire.py, `rewrite_body`."""
    body: dict[str, Any] = {}
    wire.rewrite_body(route, body, model=None, output_tokens=None, priority=1, cache_salt="s")
    fields = body_fields(route)
    assert ("cache_salt" in body) == ("cache_salt" in fields)
    if route.generates:
        assert ("priority" in body) == ("priority" in fields)


def test_the_header_for_the_others() -> None:
    """cluster/core/wire.py: messages are turned into a chat request, whose priority comes from this header."""
    from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
    from vllm.entrypoints.generate.base import serving

    assert serving.PRIORITY_HEADER.lower() == wire.HEADER_ENGINE_PRIORITY
    assert "X-data-parallel-rank" in inspect.getsource(serving)
    assert "x-data-parallel-rank" in wire.ENGINE_CONTROL_HEADERS
    assert "self.create_chat_completion(chat_req, raw_request)" in inspect.getsource(AnthropicServingMessages)
