"""The gateway renders chat templates as transformers does: same text, or both refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.core.prompt import Conversation
from services.gateway.templates import TemplateError, load_chat_template

transformers = pytest.importorskip("transformers")

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}{{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- call.function.name + ' ' + (call.function.arguments | tojson(indent=2)) }}
    {%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'assistant' %}{{- raise_exception('starts with an assistant') }}{%- endif %}
{%- for message in messages %}
    {%- if loop.index0 > 20 %}{%- break %}{%- endif %}
    {%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] | trim }}{% endgeneration %}
    {%- else %}
    {{- '[INST] ' ~ (message['content'] | trim) ~ ' [/INST]' }}
    {%- endif %}
{%- endfor %}
{{- eos_token if not add_generation_prompt else '' }}
{{- strftime_now('%Y') }} {{ extra | default('none') }}
"""
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": " be brief "}, {"role": "user", "content": "<b>&'\"</b> 你好\n\n"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b "}, {"role": "user", "content": "c"}],
    [{"role": "assistant", "content": "me first"}],
]
TOOLS = [
    {"type": "function", "function": {"name": "f", "description": "é <x>", "parameters": {"type": "object"}}},
]


def theirs(template: str, messages: list[dict[str, Any]], **arguments: Any) -> str:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), bos_token="<s>", eos_token="</s>")
    return str(tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **arguments))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.BPE())


@pytest.fixture(params=[CHATML, LLAMA], ids=["chatml", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": request.param}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize("tools", [(), tuple(TOOLS)], ids=["plain", "tools"])
@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("arguments", [{}, {"add_generation_prompt": False}, {"extra": "x"}])
def test_same_text(
    folder: Path, messages: list[dict[str, Any]], tools: tuple[dict[str, Any], ...], arguments: dict[str, Any]
) -> None:
    template = load_chat_template(folder)
    assert template is not None
    source = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    conversation = Conversation(messages=tuple(messages), tools=tools, template_arguments=arguments)
    try:
        expected = theirs(source, messages, tools=list(tools) or None, **{"add_generation_prompt": True, **arguments})
    except Exception:  # noqa: BLE001 - whatever they raise, ours must refuse too
        with pytest.raises(TemplateError):
            template.render(conversation)
        return
    assert template.render(conversation) == expected


def test_parts_of_text_are_joined_where_the_template_wants_text(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    template = load_chat_template(tmp_path)
    assert template is not None
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    rendered = template.render(Conversation(messages=({"role": "user", "content": parts},)))
    assert "<|im_start|>user\na\nb<|im_end|>" in rendered


def test_parts_stay_parts_where_the_template_loops_over_them(tmp_path: Path) -> None:
    source = "{% for m in messages %}{% for part in m['content'] %}[{{ part.text }}]{% endfor %}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(source)
    template = load_chat_template(tmp_path)
    assert template is not None
    assert template.render(Conversation(messages=({"role": "user", "content": "a"},))) == "[a]"


def test_a_template_cannot_reach_out(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    template = load_chat_template(tmp_path)
    assert template is not None
    with pytest.raises(TemplateError):
        template.render(Conversation(messages=({"role": "user", "content": "a"},)))


def test_no_template_is_none(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path) is None
