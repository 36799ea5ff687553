"""The same request by REST and by gRPC: the same tokens, usage, finish reason and error, on a real cluster."""

from __future__ import annotations

from collections import Counter
from typing import Any

import grpc
import httpx
import pytest

from services.grpc.generated.longreach.v1 import inference_pb2_grpc
from tests.cluster_harness import Cluster, settled
from tests.grpc_answers import grpc_answer, grpc_error, rest_answer, rest_error
from tests.grpc_parity import Case, all_fields, cases, used_fields

pytestmark = pytest.mark.integration

SEED = 2507
CASES = cases(SEED)
SAID_IN_OWN_WORDS = {"chat_template_kwargs"}
"""Fields that are a value in REST and its text in gRPC: what is wrong with them is said of different things."""


def test_the_cases_are_many_and_use_every_field() -> None:
    assert len(CASES) >= 100
    used = set().union(*(used_fields(case.message) for case in CASES))
    assert all_fields() - used == set()


async def by_rest(http: httpx.AsyncClient, case: Case) -> dict[str, Any]:
    body = dict(case.body)
    if case.method.endswith("Stream"):
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = await http.post(case.path, json=body, headers=case.headers)
    return rest_answer(answer) if answer.status_code == 200 else {"error": rest_error(answer)}


async def by_grpc(stub: inference_pb2_grpc.InferenceStub, case: Case) -> dict[str, Any]:
    call = getattr(stub, case.method)(case.message, metadata=tuple(case.headers.items()))
    try:
        messages = [message async for message in call] if case.method.endswith("Stream") else [await call]
    except grpc.aio.AioRpcError as error:
        return {"error": grpc_error(error)}
    return grpc_answer(messages)


@pytest.mark.timeout(600)
async def test_both_mean_the_same(
    cluster: Cluster, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await settled(cluster, "short", "long")
    differ, kinds = [], Counter[str]()
    async with grpc.aio.insecure_channel(cluster.grpc_address) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        for case in CASES:
            # The first fills the prefix cache, so that the two that are compared find the same in it.
            await by_rest(http, case)
            rest, by_call = await by_rest(http, case), await by_grpc(stub, case)
            if case.method == "CountTokens":
                rest.pop("ids", None)
                rest.pop("strings", None)
            if "error" in rest and rest["error"]["field"] in SAID_IN_OWN_WORDS and "error" in by_call:
                rest["error"].pop("message")
                by_call["error"].pop("message")
            kinds[rest["error"]["reason"] if "error" in rest else "answered"] += 1
            if rest != by_call:
                differ.append(f"{case.name}\n  REST {rest}\n  gRPC {by_call}\n  body {case.body}")
    with capsys.disabled():
        print(f"\nparity: {len(CASES)} requests, {len(differ)} differ; {dict(kinds)}")  # noqa: T201 - the figures
    assert kinds["answered"] >= len(CASES) / 3
    assert differ == [], "\n".join(differ)
