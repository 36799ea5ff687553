"""What replicas' tiers have done, from their metrics as text and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.core.wire import HEADER_CREDENTIAL
from cluster.local import tier_counters
from cluster.local.tier_counters import counters_of, read_counters
from cluster.sockets import free_port

TEXT = """# TYPE longreach_tier_prompts_total counter
longreach_tier_prompts_total{decision="below"} 3.0
longreach_tier_prompts_total{decision="asked"} 1.0
# TYPE longreach_tier_break_even_tokens gauge
longreach_tier_break_even_tokens +Inf
# TYPE vllm:redis_tier_blocks counter
vllm:redis_tier_blocks_total{engine="0",model_name="tiny",result="stored"} 126.0
vllm:redis_tier_blocks_total{engine="1",model_name="tiny",result="stored"} 4.0
# TYPE vllm:redis_tier_dropped_blocks counter
vllm:redis_tier_dropped_blocks_total{engine="0",reason="queue"} 2.0
vllm:redis_tier_dropped_blocks_total{engine="0",reason="down"} 5.0
"""
FOUND = {"below": 3, "asked": 1, "stored_blocks": 130, "dropped_blocks": 7}


class Replica(BaseHTTPRequestHandler):
    """Answers its gateways only."""

    def do_GET(self) -> None:
        is_known = self.headers.get(HEADER_CREDENTIAL) == "secret" and self.path == "/p/metrics"
        body = TEXT.encode() if is_known else b""
        self.send_response(200 if is_known else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Replica) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def lease(port: int, name: str = "r") -> Lease:
    return Lease(
        replica_id=ReplicaId(name),
        pool=PoolName("p"),
        model="m",
        url=f"http://127.0.0.1:{port}/p",
        state=ReplicaState.READY,
        context_tokens=64,
        running=0,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
    )


def test_counters_are_added_up_over_engines_and_left_out_where_there_are_none() -> None:
    assert counters_of(TEXT) == FOUND
    assert counters_of("") == {}


def test_replicas_are_asked_with_the_secret_and_one_that_is_gone_is_said(port: int) -> None:
    here, gone = read_counters([lease(port, "here"), lease(free_port(), "gone")], "secret")
    assert (here.replica_id, here.counters, here.error) == ("here", FOUND, "")
    assert (gone.replica_id, gone.counters) == ("gone", {})
    assert gone.error
    (refused,) = read_counters([lease(port)], None)
    assert "401" in refused.error
    assert read_counters([], "secret") == ()


def test_a_replica_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(tier_counters, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (found,) = read_counters([lease(silent.getsockname()[1])], "secret")
    assert found.error
    assert found.counters == {}
