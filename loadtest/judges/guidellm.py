"""guidellm: its configuration, its prompts, and its result file.

Its own synthetic prompts are made while it sends, and what is due meanwhile is sent late, in one burst: so it is given
a file of prompts. What must not live here: running it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtest.arrivals import Spacing
from loadtest.judges.judge import OFFLINE, Command, Distribution, JudgeError, Part, read_result
from loadtest.judges.load import Order
from loadtest.judges.taken import Taken, Timed
from loadtest.text import load_writer

CONFIGURATION = "guidellm.json"
PROMPTS = "prompts.jsonl"
RESULT = "result.json"
LOCK = Path(__file__).with_name("guidellm.txt")
VERSION = "0.8.1"
WORKERS = "1"
"""Its client processes. Ten, its default, took over a minute to start on two busy cores that the server needs, too."""

START_DELAY_S = "10"
"""From when it has read its prompts to the first request. After 1 s, its default, a client process on a busy machine is
not ready, and sends what was due meanwhile in one burst."""


class _Timings(Part):
    """Seconds since 1970."""

    targeted_start: float
    request_start: float
    """When the head of the request was written; a new connection is there by then."""
    first_token_iteration: float
    last_token_iteration: float


class _Info(Part):
    timings: _Timings


class _Request(Part):
    info: _Info
    prompt_tokens: int
    output_tokens: int


class _Unanswered(Part):
    request_id: str


class _Requests(Part):
    successful: list[_Request]
    errored: list[_Unanswered]
    incomplete: list[_Unanswered]


class _Benchmark(Part):
    requests: _Requests


class _Result(Part):
    benchmarks: list[_Benchmark]


class GuideLlm:
    """The load client of the vLLM project's GuideLLM."""

    name = "guidellm"
    title = "guidellm"
    distribution = Distribution(
        name="guidellm",
        version=VERSION,
        environment=(f"guidellm=={VERSION}", "--constraint", LOCK),
        remedy="see that pip reaches a package index, or name an interpreter that has it with --python",
    )

    def command(self, order: Order) -> Command:
        """How it is run; its configuration and its prompts are written."""
        with (order.folder / PROMPTS).open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in _rows(order))
        (order.folder / CONFIGURATION).write_text(json.dumps(configuration(order), indent=1), encoding="utf-8")
        goal = order.goal
        key = {} if goal.api_key is None else {"GUIDELLM__SPEC__BACKEND__API_KEY": goal.api_key}
        authority = {} if goal.ca_file is None else {"SSL_CERT_FILE": str(goal.ca_file)}
        arguments = ("-m", "guidellm", "run", "--config", str(order.folder / CONFIGURATION), "--disable-console")
        workers = {
            "GUIDELLM__MAX_WORKER_PROCESSES": WORKERS,
            "GUIDELLM__SCHEDULER_START_DELAY_NON_DISTRIBUTED": START_DELAY_S,
        }
        return Command(arguments=arguments, variables={**OFFLINE, **workers, **key, **authority})

    def read(self, folder: Path) -> Taken:
        """What it measured.

        Raises:
            JudgeError: it left no result, or one that is not known of it.
        """
        found = read_result(folder / RESULT, _Result)
        if len(found.benchmarks) != 1:
            raise JudgeError(f"{folder / RESULT}: it has {len(found.benchmarks)} benchmarks, not one")
        requests = found.benchmarks[0].requests
        failed = len(requests.errored) + len(requests.incomplete)
        return Taken(answers=[_timed(one) for one in requests.successful], failed=failed)


def configuration(order: Order) -> dict[str, Any]:
    """What guidellm is told; no key is in it."""
    load, goal = order.load, order.goal
    profile: dict[str, Any] = {"kind": "concurrent", "streams": [load.concurrency]}
    if load.rate_per_s is not None:
        kind = "constant" if load.spacing is Spacing.CONSTANT else "poisson"
        profile = {"kind": kind, "rate": [load.rate_per_s]}
    return {
        "spec": {
            "backend": {
                "kind": "openai_http",
                "target": goal.url,
                "model": goal.model,
                "request_format": "/v1/chat/completions",
                # The gateway's own health is asked on another port.
                "validate_backend": False,
                "verify": True,
                "extras": {"body": {"temperature": 0}},
            },
            "tokenizer": {"kind": "huggingface_auto", "model": str(goal.tokenizer)},
            "data": [{"kind": "json_file", "path": str(order.folder / PROMPTS)}],
            "profile": profile,
            "constraints": [{"kind": "max_requests", "count": load.requests}],
            "seed": {"kind": "static", "value": order.seed},
            "outputs": [{"kind": "json", "path": str(order.folder / RESULT)}],
            "metrics": {"kind": "generative", "sample_size": 0},
        }
    }


def _rows(order: Order) -> Iterator[dict[str, Any]]:
    writer = load_writer(order.goal.tokenizer)
    rng = random.Random(order.fresh)  # noqa: S311 - words
    for _ in range(order.load.requests):
        text = writer.text(rng, order.message_tokens)
        yield {"prompt": text, "output_tokens_count": order.load.output_tokens}


def _timed(request: _Request) -> Timed:
    times = request.info.timings
    return Timed(
        sent_s=times.request_start,
        ttft_s=times.first_token_iteration - times.request_start,
        decode_s=times.last_token_iteration - times.first_token_iteration,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
        late_s=times.request_start - times.targeted_start,
    )
