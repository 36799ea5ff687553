"""What the command line reads of a stream over gRPC."""

from __future__ import annotations

import pytest

from cluster.local.grpc_client import _event
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2


@pytest.mark.parametrize("cached", [None, 0, 7])
def test_an_engine_that_does_not_tell_of_its_cache_is_not_taken_for_one_that_has_none(cached: int | None) -> None:
    usage = common_pb2.Usage(prompt_tokens=8, completion_tokens=2, total_tokens=10, cached_tokens=cached)
    told = _event(chat_pb2.ChatStreamResponse(usage=usage))["usage"]
    assert told["prompt_tokens_details"] == {"cached_tokens": cached}
