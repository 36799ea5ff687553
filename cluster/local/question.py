"""The end of `up`: one question, its answer as it comes, where it went and why, and what to type next.

What must not live here: HTTP (client.py), starting anything.
"""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.text import Text

from cluster.local.client import ChatAnswer, GatewayClient

QUESTION = (
    "Write a one-line Python function that reverses the words of a sentence, and say in one sentence how it works."
)
ANSWER_TOKENS_MAX = 96
"""Some ten seconds on two cores."""


def ask(client: GatewayClient, *, model: str, console: Console) -> ChatAnswer:
    """Ask the first question and print the answer as it arrives.

    Raises:
        GatewayRefusedError: it was not answered.
    """
    console.print()
    console.print(Text.assemble(("you    ", "bold cyan"), QUESTION), soft_wrap=True)
    console.print(Text("model  ", style="bold green"), end="")
    messages = [{"role": "user", "content": QUESTION}]
    with client.chat(messages, model=model, max_tokens=ANSWER_TOKENS_MAX, temperature=0) as answer:
        for piece in answer:
            console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.print(routed(answer), soft_wrap=True)
    return answer


def routed(answer: ChatAnswer) -> Text:
    """Where an answer came from, why, and how fast, for people."""
    text = Text(style="dim")
    text.append(f"pool {answer.pool} · replica {answer.replica}\nwhy: {answer.reason}\n")
    parts = [f"first token after {answer.ttft_s:.2f} s"] if answer.ttft_s is not None else []
    if answer.ttft_s is not None and answer.output_tokens and answer.output_tokens > 1:
        rate = (answer.output_tokens - 1) / max(answer.total_s - answer.ttft_s, 1e-6)
        parts.append(f"{answer.output_tokens} tokens, {rate:.1f} a second after the first")
    if answer.prompt_tokens is not None:
        cached = f", {answer.cached_tokens} of them from cache" if answer.cached_tokens is not None else ""
        parts.append(f"prompt {answer.prompt_tokens} tokens{cached}")
    text.append(" · ".join(parts))
    return text


COMMANDS = {
    "chat": "talk to it; --file and --dir add documents",
    "demo": "what the pools are for, in 60 seconds",
    "status": "pools, replicas, load",
    "down": "stop everything",
}


def next_steps(url: str, model: str, *, program: str, config: str | None = None) -> str:
    """Lines to copy.

    Args:
        url: the gateway's address, without /v1.
        model: a model's name.
        program: how `longreach` is called from here.
        config: the file that names the cluster, where it is not the default one.
    """
    option = f" --config {shlex.quote(config)}" if config else ""
    commands = "\n".join(
        f"  {f'{program} {command}{option}':<{len(program) + len(option) + 9}} {use}"
        for command, use in COMMANDS.items()
    )
    return f"""
Try it
  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")
  answer = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello"}}])
  print(answer.choices[0].message.content)

{commands}
"""
