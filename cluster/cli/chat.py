"""`longreach chat`: one question, or a conversation, with documents as context.

What must not live here: HTTP (cluster/local/client.py), gRPC (cluster/local/grpc_client.py), reading documents
(documents.py).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from cluster.cli.target import (
    CaOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    ModelOption,
    UrlOption,
    api_key,
    gateway_url,
    grpc_url,
    print_json,
)

if TYPE_CHECKING:
    from cluster.local.client import ChatAnswer, GatewayClient, Message
    from cluster.local.grpc_client import GrpcGatewayClient

TIMEOUT_S = 3600.0
"""As long as a gateway lets a request take that names no deadline (gateway.limits.request_s)."""
ASK_AGAIN_S = 2.0
"""A replica takes a minute or more to start."""
T = TypeVar("T")
LEAVE = frozenset({"/exit", "/quit"})
FORGET = "/new"


def chat(
    prompt: Annotated[str | None, typer.Argument(help="The question; without it, a conversation begins.")] = None,
    file: Annotated[list[Path] | None, typer.Option("--file", "-f", help="A document as context; repeatable.")] = None,
    directory: Annotated[
        list[Path] | None, typer.Option("--dir", "-d", help="A folder's text files as context; repeatable.")
    ] = None,
    model: ModelOption = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Over gRPC; --url is then host:port.")] = False,
    url: UrlOption = None,
    api_key_env: KeyOption = None,
    ca_file: CaOption = None,
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=0, help="Ask again for so long while no gateway or replica is there.")
    ] = 0.0,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.1, help="Longest an answer may take, to its end.")
    ] = TIMEOUT_S,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Ask the model, or talk to it; answers stream, and their pool and reason are shown."""
    key = api_key(api_key_env)
    if prompt is None and (json or not sys.stdin.isatty()):
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise typer.BadParameter("no question: give one as the argument or on standard input")
    client = _client(grpc_url(url, config) if grpc else gateway_url(url, config), grpc, key, ca_file, timeout_s)
    patience = Patience(wait_s=wait_s)
    with contextlib.closing(client):
        used = model or patience.ask(client.default_model)
        talk = Talk(client, model=used, max_tokens=max_tokens)
        patience.ask(lambda: talk.begin(system, file or [], directory or []))
        if prompt is None:
            talk.converse()
            return
        question = prompt
        answer = patience.ask(lambda: talk.ask(question, quiet=json))
        _require_tokens(answer)
        if json:
            print_json(answer.summary())


def _client(
    url: str, is_grpc: bool, key: str | None, ca_file: Path | None, timeout_s: float
) -> GatewayClient | GrpcGatewayClient:
    if is_grpc:
        from cluster.local.grpc_client import GrpcGatewayClient

        return GrpcGatewayClient(url, api_key=key, ca_file=ca_file, timeout_s=timeout_s)
    from cluster.local.client import GatewayClient

    return GatewayClient(url, api_key=key, ca_file=ca_file, timeout_s=timeout_s)


def _require_tokens(answer: ChatAnswer) -> None:
    """An answer without a token is none, whatever its status.

    Raises:
        GatewayRefusedError: it has none.
    """
    from cluster.local.client import GatewayRefusedError

    if not answer.output_tokens and not answer.text:
        raise GatewayRefusedError(f"the answer has no tokens (model {answer.model}, replica {answer.replica})")


class Patience:
    """Asks again while a refusal may pass, for so long in all."""

    def __init__(
        self,
        *,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._until_s = clock() + wait_s
        self._told = ""

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` gives.

        Raises:
            GatewayRefusedError: its own, when it does not pass, or the time is over.
        """
        from cluster.local.client import GatewayRefusedError

        while True:
            try:
                return question()
            except GatewayRefusedError as error:
                if not error.may_pass or self._clock() + ASK_AGAIN_S > self._until_s:
                    raise
                if str(error) != self._told:
                    self._told = str(error)
                    typer.secho(f"waiting: {self._told.splitlines()[0]}", dim=True, err=True)
            self._sleep(ASK_AGAIN_S)


class Asked(Protocol):
    """A gateway, over whichever API; see `GatewayClient`."""

    url: str

    def chat(
        self, messages: Sequence[Message], *, model: str, max_tokens: int | None = None
    ) -> AbstractContextManager[ChatAnswer]:
        """Ask for a streamed answer."""
        ...

    def count_tokens(self, messages: Sequence[Message], *, model: str) -> int:
        """The prompt's length in tokens."""
        ...


class Talk:
    """One conversation: what was said so far, and with whom."""

    def __init__(self, client: Asked, *, model: str, max_tokens: int | None) -> None:
        self._client = client
        self._model = model
        self._max_tokens = max_tokens
        self._first: list[dict[str, str]] = []
        self._context = ""
        self._said: list[dict[str, str]] = []

    def begin(self, system: str | None, files: list[Path], folders: list[Path]) -> None:
        """Set the system prompt and the documents, and say how long those are.

        Raises:
            SetupError: a document cannot be read.
            GatewayRefusedError: the gateway does not answer.
        """
        from cluster.cli.documents import as_context, read_file, read_folder

        if system:
            self._first = [{"role": "system", "content": system}]
        documents = [read_file(path) for path in files]
        documents += [document for folder in folders for document in read_folder(folder)]
        if not documents:
            return
        self._context = as_context(documents)
        count = self._client.count_tokens([*self._first, {"role": "user", "content": self._context}], model=self._model)
        plural = "s" if len(documents) > 1 else ""
        typer.secho(f"{len(documents)} document{plural}, {count:,} tokens", dim=True, err=True)

    def ask(self, prompt: str, *, quiet: bool = False) -> ChatAnswer:
        """Send one message and print the answer as it arrives.

        Raises:
            GatewayRefusedError: there is no answer, or it broke off.
        """
        # Documents come first and stay the same: their prefix is computed once for the whole conversation.
        content = f"{self._context}\n\n{prompt}" if self._context and not self._said else prompt
        question = {"role": "user", "content": content}
        messages = [*self._first, *self._said, question]
        with self._client.chat(messages, model=self._model, max_tokens=self._max_tokens) as answer:
            for piece in answer:
                if not quiet:
                    sys.stdout.write(piece)
                    sys.stdout.flush()
        self._said += [question, {"role": "assistant", "content": answer.text}]
        if not quiet:
            sys.stdout.write("\n")
            sys.stdout.flush()
            _show_route(answer)
        return answer

    def converse(self) -> None:
        """Talk until the end of input; Ctrl-C ends an answer, not the conversation."""
        from cluster.local.client import GatewayRefusedError

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() a history and editing
        typer.secho(
            f"{self._model} at {self._client.url}; {FORGET} forgets, /exit or Ctrl-D leaves", dim=True, err=True
        )
        while True:
            try:
                prompt = input("> ").strip()
            except (EOFError, KeyboardInterrupt):
                typer.echo(err=True)
                return
            if prompt in LEAVE:
                return
            if prompt == FORGET:
                self._said.clear()
            elif prompt:
                try:
                    self.ask(prompt)
                except KeyboardInterrupt:
                    typer.secho("\n(stopped)", dim=True, err=True)
                except GatewayRefusedError as error:
                    typer.secho(str(error), fg="red", err=True)


def _show_route(answer: ChatAnswer) -> None:
    from rich.console import Console

    from cluster.local.question import routed

    Console(stderr=True).print(routed(answer), soft_wrap=True)
