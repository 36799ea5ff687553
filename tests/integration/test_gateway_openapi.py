"""The gateway keeps its own OpenAPI document: whatever fits it, or nearly does, gets an answer that it describes.

Requests are made by schemathesis from `/openapi.json` of a gateway process in front of fake engines.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cluster.core.request import Route
from tests.fake_engine import FakeEngine, serve
from tests.gateway_process import GatewayProcess, config_of, gateway_process

pytestmark = pytest.mark.integration

MODEL = "m"
RIGHT, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
EXAMPLES = [
    pytest.param(RIGHT, 25, id="right"),
    pytest.param(WRONG, 15, id="wrong"),
    pytest.param(RIGHT, 200, id="right-many", marks=pytest.mark.slow),
    pytest.param(WRONG, 120, id="wrong-many", marks=pytest.mark.slow),
]
"""Requests that fit the document, and requests that break one of its rules; for each operation so many, which makes
less than a minute in all on two cores. Making them takes longer than sending them."""
START_S = 60.0
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@dataclass(slots=True, kw_only=True)
class Served:
    """A gateway and its engine, in a loop of their own: schemathesis calls them from this thread."""

    gateway: GatewayProcess
    engine: FakeEngine


@asynccontextmanager
async def behind_a_gateway(folder: Path) -> AsyncIterator[Served]:
    async with (
        serve(FakeEngine(tokens=2)) as engine,
        gateway_process(folder, config_of({MODEL: [engine.url]}, context_tokens=1_000_000)) as gateway,
    ):
        yield Served(gateway=gateway, engine=engine)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    stack = AsyncExitStack()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(START_S)

    try:
        yield run(stack.enter_async_context(behind_a_gateway(tmp_path_factory.mktemp("gateway"))))
    finally:
        run(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    return schemathesis.openapi.from_url(f"{served.gateway.url}/openapi.json")


@pytest.mark.parametrize(("mode", "examples"), EXAMPLES)
def test_every_answer_is_described(
    mode: schemathesis.GenerationMode, examples: int, served: Served, document: Any, subtests: pytest.Subtests
) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    assert operations
    for operation in operations:
        with subtests.test(operation.label):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
                check_operation(strategy, examples, served)
            except Unsatisfiable:
                continue  # nothing about a GET without parameters can be wrong


def check_operation(cases: Any, examples: int, served: Served) -> None:
    @seed(20261122)
    @settings(max_examples=examples, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def conforms(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and len(case.body["model"]) % 4:
            # Most names would only be told to be unknown; some are left, to be told so.
            if "prompt" in case.body and len(case.body["model"]) % 4 == 1:
                case.body["prompt"] = "anything at all, says the document, but hardly anything is a prompt"
            case.body["model"] = MODEL
        answer = case.call(timeout=20)
        is_stream = any("text/event-stream" in value for value in answer.headers.get("content-type", []))
        # Schemathesis holds each event against what the document says of the whole text.
        checks = [check for check in CHECKS if not (is_stream and check is response_schema_conformance)]
        case.validate_response(answer, checks=checks)
        assert served.gateway.is_alive

    conforms()


def test_every_inference_route_reached_the_engine(served: Served) -> None:
    """The check above means little where nothing comes through."""
    reached = {seen.path.removeprefix("/v1").removeprefix("/") for seen in served.engine.seen}
    assert reached == {route.value for route in Route}


def test_the_log_has_no_fault(served: Served) -> None:
    assert served.gateway.complaints() == []
