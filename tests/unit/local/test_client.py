"""The gateway's client, against a server that says what a gateway says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from cluster.local.client import GatewayClient, GatewayRefusedError

PIECES: list[dict[str, Any]] = [
    {"model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"model": "m", "choices": [{"delta": {"content": "Hé"}}]},
    {"model": "m", "choices": [{"delta": {"content": "llo"}, "finish_reason": "stop"}]},
    {
        "model": "m",
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
    },
]


class Handler(BaseHTTPRequestHandler):
    """Answers like a gateway; what it was sent stays readable."""

    seen: ClassVar[list[dict[str, Any]]] = []
    breaks_off: ClassVar[bool] = False

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append(body)
        if body.get("model") == "unknown":
            self._answer(404, {"error": {"message": "The model 'unknown' does not exist."}})
        elif self.path == "/tokenize":
            self._answer(200, {"count": 42})
        else:
            self._stream()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("x-longreach-pool", "short")
        self.send_header("x-longreach-reason", "because")
        self.end_headers()
        pieces = [*PIECES[:2], {"error": {"message": "engine died"}}] if self.breaks_off else PIECES
        for piece in pieces:
            self.wfile.write(f": a comment\n\ndata: {json.dumps(piece, ensure_ascii=False)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Handler.seen.clear()
    Handler.breaks_off = False
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


HELLO = [{"role": "user", "content": "Hello"}]


def test_chat_streams_and_tells_where_it_came_from(url: str) -> None:
    client = GatewayClient(url + "/v1/")
    with client.chat(HELLO, model="m", max_tokens=5, temperature=0) as answer:
        assert list(answer) == ["Hé", "llo"]
    assert (answer.pool, answer.replica, answer.reason) == ("short", "?", "because")
    assert (answer.prompt_tokens, answer.cached_tokens, answer.output_tokens) == (9, 4, 2)
    assert answer.ttft_s is not None
    assert 0 < answer.ttft_s <= answer.total_s
    assert answer.summary()["text"] == "Héllo"
    assert Handler.seen[0]["max_tokens"] == 5
    assert Handler.seen[0]["stream_options"] == {"include_usage": True}


def test_refusal_is_told_in_the_gateways_words(url: str) -> None:
    client = GatewayClient(url)
    with pytest.raises(GatewayRefusedError, match=r"404: The model 'unknown' does not exist"):
        client.count_tokens(HELLO, model="unknown")
    with pytest.raises(GatewayRefusedError, match="404"), client.chat(HELLO, model="unknown"):
        pass


def test_answer_that_breaks_off_is_an_error(url: str) -> None:
    Handler.breaks_off = True
    client = GatewayClient(url)
    with pytest.raises(GatewayRefusedError, match="engine died"), client.chat(HELLO, model="m") as answer:
        list(answer)
    assert answer.text == "Hé"


def test_small_questions(url: str) -> None:
    client = GatewayClient(url)
    assert client.is_healthy()
    assert client.default_model() == "m"
    assert client.count_tokens(HELLO, model="m") == 42


def test_no_gateway() -> None:
    client = GatewayClient("http://127.0.0.1:9")
    assert not client.is_healthy()
    with pytest.raises(GatewayRefusedError, match=r"no gateway answers at http://127.0.0.1:9"):
        client.models()
