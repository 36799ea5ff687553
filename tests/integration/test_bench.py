"""The gateway's bench, end to end: its fake engine, its load client, and one quick comparison. Never a timing."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cluster.core import wire
from cluster.core.errors import SetupError
from cluster.core.outcome import decode_outcome
from loadtest.bench import native
from loadtest.bench.bodies import Bodies
from loadtest.bench.engines import Engines, running_engines
from loadtest.bench.load import LoadClient
from loadtest.bench.machine import pick_cores
from loadtest.bench.results import HEADLINES

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> native.Programs:
    try:
        native.find_compiler()
    except SetupError as error:
        pytest.skip(error.problem)
    return native.build(tmp_path_factory.mktemp("native"))


@pytest.fixture
def engines(programs: native.Programs) -> Iterator[Engines]:
    with running_engines(programs.engine, core=pick_cores().load) as engines:
        yield engines


@pytest.fixture
def load(programs: native.Programs) -> LoadClient:
    return LoadClient(program=programs.load, core=pick_cores().load, api_key="lr-x")


def ask(engines: Engines, body: dict[str, object], **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", engines.ports[0], timeout=10)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer, answer.read()


def test_the_fake_engine_tells_the_outcome_as_a_replica_does(engines: Engines) -> None:
    wants = {wire.HEADER_WANTS: wire.WANTS_OUTCOME}
    answer, body = ask(engines, {"max_tokens": 3, "x_prompt_tokens": 77}, **wants)
    outcome = decode_outcome(answer.headers[wire.HEADER_OUTCOME])
    assert outcome is not None
    assert (outcome.prompt_tokens, outcome.output_tokens) == (77, 3)
    assert json.loads(body)["usage"] == {"prompt_tokens": 77, "total_tokens": 80, "completion_tokens": 3}

    _, stream = ask(engines, {"max_tokens": 3, "x_prompt_tokens": 77, "stream": True}, **wants)
    *events, last = stream.rstrip(b"\n").split(b"\n\n")
    assert events[-1] == b"data: [DONE]"
    assert last.startswith(wire.COMMENT_OUTCOME)
    outcome = decode_outcome(last.removeprefix(wire.COMMENT_OUTCOME))
    assert outcome is not None
    assert (outcome.prompt_tokens, outcome.output_tokens) == (77, 3)


def test_the_fake_engine_tells_no_outcome_unasked_and_usage_when_asked(engines: Engines) -> None:
    answer, _ = ask(engines, {"max_tokens": 1})
    assert wire.HEADER_OUTCOME not in answer.headers
    _, stream = ask(engines, {"stream": True, "max_tokens": 4, "stream_options": {"include_usage": True}})
    events = [json.loads(line[6:]) for line in stream.split(b"\n\n") if line.startswith(b"data: {")]
    assert stream.rstrip().endswith(b"data: [DONE]")
    assert events[-1]["usage"]["completion_tokens"] == 4
    assert events[-2]["choices"][0]["finish_reason"] == "length"


def test_the_load_client_counts_answers_and_chunks(engines: Engines, load: LoadClient, tmp_path: Path) -> None:
    body = Bodies(tmp_path).short(max_tokens=5, stream=True)
    result = load.run(engines.ports[0], body, connections=3, chunks=5, requests=50)
    assert (result.good, result.bad, result.status) == (50, 0, {200: 50})
    assert result.ttft.p50_ms > 0
    # The same answers are too short for who expects more.
    result = load.run(engines.ports[0], body, connections=3, chunks=6, requests=9)
    assert (result.good, result.bad) == (0, 9)


def test_the_open_loop_starts_requests_by_the_clock(engines: Engines, load: LoadClient, tmp_path: Path) -> None:
    body = Bodies(tmp_path).short(max_tokens=1, stream=False)
    result = load.run(engines.ports[0], body, connections=4, chunks=1, seconds=1.0, rate=20)
    assert result.bad == 0
    assert 19 <= result.good <= 21


def test_slow_readers_hold_their_streams_open(engines: Engines, load: LoadClient, tmp_path: Path) -> None:
    body = Bodies(tmp_path).short(max_tokens=20_000, stream=True)
    readers = load.start(engines.ports[0], body, connections=5, chunks=1, seconds=1.0, slow_bytes=512)
    out, _ = readers.communicate(timeout=30)
    told, last = out.splitlines()
    assert told == "open"
    assert json.loads(last)["open"] == 5


def test_the_load_client_says_when_nothing_listens(load: LoadClient, tmp_path: Path) -> None:
    from cluster.sockets import free_port
    from loadtest.bench.load import LoadFailedError

    body = Bodies(tmp_path).short(max_tokens=1, stream=False)
    with pytest.raises(LoadFailedError, match="cannot connect"):
        load.run(free_port(), body, connections=1, chunks=1, seconds=1.0)


def test_a_quick_comparison_runs_from_end_to_end(programs: native.Programs, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "cluster.cli", "bench", "gateway", "--quick", "--memory"]
    result = subprocess.run(
        [*command, "--json", file, "--peer", "nonesuch"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows.keys() == {"longreach", "longreach-static", "nonesuch"}
    for name in ("longreach", "longreach-static"):
        row = rows[name]
        assert all(isinstance(row[key], float) for key in HEADLINES), row
        assert (row["failed"], row["why"], set(row["status"])) == (0, None, {"200"})
        assert set(row["long"]) == {"english", "chinese", "escaped", "base64"}
        assert name in result.stdout
    assert {"memory", "memory_slow"} <= rows["longreach"].keys()
    assert "unknown" in rows["nonesuch"]["why"]
    assert rows["nonesuch"]["cpu_us_per_request"] is None
