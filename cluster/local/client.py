"""A client of the gateway, as small as the command line needs: stream a chat, count tokens, ask for health.

What must not live here: printing, and knowledge of how the gateway answers beyond its public API.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from cluster.core.errors import LongreachError, SetupError
from cluster.core.wire import HEADER_POOL, HEADER_REASON, HEADER_REPLICA
from cluster.sockets import is_loopback

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 1800.0
"""Between two bytes: a long document's prefill on a slow machine takes minutes before the first token."""
REQUEST_TIMEOUT_S = 3600.0
"""As long as a gateway lets a request take that names no deadline (gateway.limits.request_s)."""
PROBE_TIMEOUT_S = 3.0
DONE = "[DONE]"

Message = Mapping[str, str]


MAY_PASS = frozenset({429, 502, 503})
"""Answers of a gateway that has no replica yet, or too few."""


class GatewayRefusedError(LongreachError):
    """The gateway cannot be reached, or answered with an error; `may_pass` where asking again may help."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        self.may_pass = may_pass
        super().__init__(text)


@dataclass(kw_only=True)
class ChatAnswer:
    """One answer while it arrives and after: iterate over it for the text, then read the rest."""

    events: Iterator[dict[str, Any]]
    """As OpenAI's stream has them, whichever API they came by."""
    sent_at: float
    pool: str
    replica: str
    reason: str
    model: str = ""
    text: str = ""
    ttft_s: float | None = None
    """From sending the request to the first text; None until then."""
    total_s: float = 0.0
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """The pieces of text, as they arrive."""
        for event in self.events:
            piece = self._take(event)
            if piece:
                if self.ttft_s is None:
                    self.ttft_s = time.monotonic() - self.sent_at
                self.text += piece
                yield piece
        self.total_s = time.monotonic() - self.sent_at

    @property
    def prompt_tokens(self) -> int | None:
        """The prompt's length, as the engine counted it."""
        return self.usage.get("prompt_tokens")

    @property
    def output_tokens(self) -> int | None:
        """The answer's length, as the engine counted it."""
        return self.usage.get("completion_tokens")

    @property
    def cached_tokens(self) -> int | None:
        """How much of the prompt was not computed again; None when the engine does not say."""
        details = self.usage.get("prompt_tokens_details") or {}
        cached: int | None = details.get("cached_tokens")
        return cached

    def summary(self) -> dict[str, Any]:
        """Everything but the pieces, for `--json`."""
        return {
            "model": self.model,
            "text": self.text,
            "pool": self.pool,
            "replica": self.replica,
            "reason": self.reason,
            "ttft_s": self.ttft_s,
            "total_s": self.total_s,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
        }

    def _take(self, event: dict[str, Any]) -> str:
        if "error" in event:
            raise GatewayRefusedError(f"the answer broke off: {_error_text(event)}")
        self.model = event.get("model") or self.model
        self.usage = event.get("usage") or self.usage
        text = ""
        for choice in event.get("choices", ()):
            text += (choice.get("delta") or {}).get("content") or ""
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return text


class GatewayClient:
    """Talks to one gateway.

    Args:
        url: its address, without /v1.
        api_key: sent as a bearer token, where there is one.
        ca_file: vouches for an https:// gateway; None: the usual authorities.
        timeout_s: of one answer, to its end.

    Raises:
        SetupError: the CA file cannot be used.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, ca_file: Path | None = None, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        self.url = url.rstrip("/").removesuffix("/v1")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(min(ANSWER_TIMEOUT_S, timeout_s), connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            verify=True if ca_file is None else _trusting(ca_file),
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=not is_loopback(urlsplit(self.url).hostname or ""),
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    @contextlib.contextmanager
    def chat(
        self, messages: Sequence[Message], *, model: str, max_tokens: int | None = None, **options: Any
    ) -> Iterator[ChatAnswer]:
        """Ask for a streamed chat completion; leaving the context cancels what has not arrived.

        Raises:
            GatewayRefusedError: the gateway cannot be reached or refuses, here or while iterating.
        """
        body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": True, **options}
        body["stream_options"] = {"include_usage": True}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        sent_at = time.monotonic()
        with self._faults(), self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise _refusal(response)
            yield ChatAnswer(
                events=_in_time(_events(response.iter_lines()), until_s=sent_at + self._timeout_s),
                sent_at=sent_at,
                pool=response.headers.get(HEADER_POOL, "?"),
                replica=response.headers.get(HEADER_REPLICA, "?"),
                reason=response.headers.get(HEADER_REASON, "?"),
            )

    def count_tokens(self, messages: Sequence[Message], *, model: str) -> int:
        """The prompt's length in tokens, chat template included.

        Raises:
            GatewayRefusedError: the gateway cannot be reached or refuses.
        """
        body = {"model": model, "messages": list(messages)}
        return int(self._json("POST", "/tokenize", json=body)["count"])

    def models(self) -> list[dict[str, Any]]:
        """The model list, as the API gives it.

        Raises:
            GatewayRefusedError: the gateway cannot be reached or refuses.
        """
        found: list[dict[str, Any]] = self._json("GET", "/v1/models")["data"]
        return found

    def default_model(self) -> str:
        """The first model on the list.

        Raises:
            GatewayRefusedError: the gateway cannot be reached, refuses, or has no model.
        """
        models = self.models()
        if not models:
            raise GatewayRefusedError(f"{self.url} has no model")
        return str(models[0]["id"])

    def is_healthy(self) -> bool:
        """Whether the gateway answers at all."""
        try:
            return self._http.get("/health", timeout=PROBE_TIMEOUT_S).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._faults():
            response = self._http.request(method, path, **options)
            if response.status_code != httpx.codes.OK:
                raise _refusal(response)
            found: dict[str, Any] = response.json()
            return found

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise GatewayRefusedError(
                f"no gateway answers at {self.url} ({error})\n  remedy: start a cluster with `longreach up`",
                may_pass=True,
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise GatewayRefusedError(f"{self.url}: {error or type(error).__name__}") from error


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data and data != DONE:
            yield json.loads(data)


def _in_time(events: Iterator[dict[str, Any]], *, until_s: float) -> Iterator[dict[str, Any]]:
    """A stream that goes on and on is given up as well; silence is the transport's to notice."""
    for event in events:
        if time.monotonic() > until_s:
            raise GatewayRefusedError("the answer did not end in time")
        yield event


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"{ca_file} holds no certificate of an authority: {error}", "name a PEM file") from error


def _refusal(response: httpx.Response) -> GatewayRefusedError:
    try:
        text = _error_text(response.json())
    except ValueError:
        text = response.text[:500]
    may_pass = response.status_code in MAY_PASS
    return GatewayRefusedError(f"the gateway answered {response.status_code}: {text}", may_pass=may_pass)


def _error_text(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message", error)) if isinstance(error, dict) else str(error or body)
