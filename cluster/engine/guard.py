"""The `send` that vLLM gets: holds the head back until the budget is checked, cuts what must not look complete.

What must not live here: what is added to an answer (side_channel.py).
"""

from __future__ import annotations

from cluster.core import wire
from cluster.core.errors import EngineStalledError, LongreachError
from cluster.engine.asgi import Message, Send, refuse
from cluster.engine.budget import Budget
from cluster.engine.gate import DRAIN_RETRY_AFTER_S, Gate


class DeadlineError(LongreachError):
    """The time a request was given has passed while its answer was on the way."""


class Guard:
    """Decides what of an answer goes out.

    Args:
        send: towards the gateway.
        gate: knows when the engine is gone.
        budget: of this request; None holds nothing back.
    """

    def __init__(self, send: Send, gate: Gate, budget: Budget | None) -> None:
        self._send = send
        self._gate = gate
        self._budget = budget
        self._held: list[Message] = []
        self._started = False
        self._answered = False
        self._complete = False
        self.cut = False

    @property
    def can_refuse(self) -> bool:
        """Whether the engine's context is too small for this request, and nothing of an answer is out yet.

        An API that generates several times in one request can be refused after its head: that breaks the answer.
        """
        return self._budget is not None and self._budget.refused_prompt_tokens is not None and not self._started

    async def __call__(self, message: Message) -> None:
        """Pass a message on, hold it, or refuse to."""
        reason = self._gate.broken_reason
        if self.cut or (reason is not None and not self._answered):
            self.cut = True
            raise EngineStalledError(reason or "the request is over")
        if self.can_refuse:
            await self.refuse()
            return
        if self._answered:
            return
        self._held.append(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._budget is None or self._budget.checked or is_last:
            await self._flush()

    async def _flush(self) -> None:
        held, self._held = self._held, []
        for message in held:
            self._started = True
            await self._send(message)
            self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def refuse(self) -> None:
        """Answer that this context is too small, once."""
        if self._answered or self._budget is None:
            return
        self._answered = True
        self._held.clear()
        prompt_tokens = self._budget.refused_prompt_tokens
        text = (
            f"prompt {prompt_tokens} + output {self._budget.output_tokens} tokens are over this replica's limit of "
            f"{self._budget.context_tokens}"
        )
        extra = [(wire.HEADER_PROMPT_TOKENS.encode(), str(prompt_tokens).encode())]
        await refuse(self._send, 400, wire.REFUSAL_CONTEXT, text, extra=extra)

    async def give_up(self) -> None:
        """End an answer whose engine is gone: 503 before the first byte, a broken connection after it.

        Raises:
            EngineStalledError: the head is out already, so the connection must not end cleanly.
        """
        reason = self._gate.broken_reason or "the engine is gone"
        if self._may_still_answer(EngineStalledError(reason)):
            await refuse(self._send, 503, wire.REFUSAL_STALLED, reason, retry_after_s=DRAIN_RETRY_AFTER_S)

    async def expire(self) -> None:
        """End an answer whose deadline has passed: 504 before the first byte, a broken connection after it.

        Raises:
            DeadlineError: the head is out already, so the connection must not end cleanly.
        """
        reason = "the request's deadline has passed"
        if self._may_still_answer(DeadlineError(reason)):
            await refuse(self._send, 504, wire.REFUSAL_DEADLINE, reason)

    def _may_still_answer(self, otherwise: Exception) -> bool:
        self.cut = True
        if self._answered or self._complete:
            return False
        if self._started:
            raise otherwise
        self._answered = True
        return True
