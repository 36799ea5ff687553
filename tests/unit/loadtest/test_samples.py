"""What is sampled during a run, from a server that answers as a gateway's admin listener does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loadtest.samples import Sampler, gateway_sample, replica_bytes

GATEWAY = """\
# TYPE longreach_resident_memory_bytes gauge
longreach_resident_memory_bytes 2.5e+08
# TYPE longreach_endpoints gauge
longreach_endpoints{pool="short",state="ready"} 2.0
longreach_endpoints{pool="short",state="draining"} 1.0
"""
REPLICA = "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 9e+08\n"
TARGETS = [{"targets": ["x"], "labels": {"__metrics_path__": "/replicas/r1/metrics", "pool": "short", "replica": "r1"}}]
EPOCH = "1970-01-01T00:00:00+00:00"


@contextmanager
def admin(pages: dict[str, str]) -> Iterator[tuple[str, threading.Semaphore]]:
    """An address, and what is released at each answer to /sd/replicas."""
    asked = threading.Semaphore(0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write((page or "").encode())
            if self.path == "/sd/replicas":
                asked.release()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_gateways_own_figures() -> None:
    assert gateway_sample(GATEWAY) == {"gateway_bytes": 2.5e8, "short_replicas": 2.0}
    assert gateway_sample("") == {}


def test_a_replicas_memory() -> None:
    assert replica_bytes(REPLICA) == 9e8
    assert replica_bytes(GATEWAY) is None


def test_samples_are_taken_until_it_is_left() -> None:
    pages = {"/metrics": GATEWAY, "/sd/replicas": json.dumps(TARGETS), "/replicas/r1/metrics": REPLICA}
    with admin(pages) as (url, asked):
        with Sampler(url, key="secret", ca_file=None, every_s=0.0) as sampler:
            assert asked.acquire(timeout=20)
            assert asked.acquire(timeout=20)
        found = sampler.since(EPOCH)
    assert len(found) >= 2
    assert {name: value for name, value in found[0].items() if name != "at_s"} == {
        "gateway_bytes": 2.5e8,
        "short_replicas": 2.0,
        "short r1_bytes": 9e8,
    }
    assert found[0]["at_s"] <= found[1]["at_s"]
    assert sampler.since("2999-01-01T00:00:00+00:00") == []


def test_what_cannot_be_read_is_left_out() -> None:
    pages = {"/metrics": GATEWAY, "/sd/replicas": json.dumps(TARGETS)}
    with admin(pages) as (url, asked):
        with Sampler(url, key=None, ca_file=None) as sampler:
            assert asked.acquire(timeout=20)
        found = sampler.since(EPOCH)
    assert [set(one) for one in found] == [{"at_s", "gateway_bytes", "short_replicas"}]


def test_nobody_there_is_no_samples() -> None:
    with Sampler("http://127.0.0.1:9", key=None, ca_file=None) as sampler:
        pass
    assert sampler.since(EPOCH) == []
