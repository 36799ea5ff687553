"""Locust: users who chat over streams, with the time to the first token as a row of its own.

Run by Locust from its own environment: docs/judges.md. What must not live here: scenarios (loadtest/scenarios).
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

from locust import HttpUser, between, events, task

WORDS = ("time", "people", "way", "day", "thing", "life", "child", "world", "school", "state", "country", "problem")
DATA = b"data: "
DONE = b"data: [DONE]"


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def options(parser: Any) -> None:
    """What can be set."""
    parser.add_argument("--chat-model", required=True, help="Name of the model.")
    parser.add_argument("--prompt-words", type=int, default=150)
    parser.add_argument("--output-tokens", type=int, default=32)
    parser.add_argument("--chat-key", env_var="OPENAI_API_KEY", default="", include_in_web_ui=False)


class Chatter(HttpUser):  # type: ignore[misc]
    """Asks, reads the answer as it comes, thinks, asks again."""

    wait_time = between(0.5, 1.5)

    @task  # type: ignore[untyped-decorator]
    def chat(self) -> None:
        """One question. Locust's own row, `chat`, ends with the answer's head; the two others are what a user sees."""
        begun_s = time.perf_counter()
        first_s: float | None = None
        is_whole = False
        with self.client.post(
            "/v1/chat/completions",
            json=self._body(),
            headers=self._headers(),
            stream=True,
            catch_response=True,
            name="chat",
        ) as response:
            if response.status_code != 200:  # noqa: PLR2004 - HTTP's OK
                response.failure(f"status {response.status_code}")
                return
            for line in response.iter_lines():
                if line == DONE:
                    is_whole = True
                elif first_s is None and line.startswith(DATA) and _has_text(line.removeprefix(DATA)):
                    first_s = time.perf_counter()
                    self._count("TTFT", first_s - begun_s)
            if is_whole and first_s is not None:
                self._count("whole answer", time.perf_counter() - begun_s)
            else:
                response.failure("the stream broke off")

    def _body(self) -> dict[str, Any]:
        told = self.environment.parsed_options
        text = " ".join(random.choices(WORDS, k=told.prompt_words))  # noqa: S311 - words
        return {
            "model": told.chat_model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": told.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
        }

    def _headers(self) -> dict[str, str]:
        key = self.environment.parsed_options.chat_key
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _count(self, name: str, took_s: float) -> None:
        self.environment.events.request.fire(
            request_type="stream", name=name, response_time=1000 * took_s, response_length=0, exception=None, context={}
        )


def _has_text(event: bytes) -> bool:
    choices = json.loads(event).get("choices")
    return bool(choices and choices[0]["delta"].get("content"))
