"""A small byte-level tokenizer with a chat template, trained on the spot: tests need no model.

What must not live here: tests.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SAMPLES = [
    "The quick brown fox jumps over the lazy dog. " * 50,
    "今天天气很好，我们去公园散步吧。" * 60,  # noqa: RUF001 - Chinese has its own comma
    "def f(x):\n    return {'a': [x ** 2, x // 3]}\n" * 40,
    "aGVsbG8gd29ybGQhIQ==" * 80,
    "1234567890 " * 100,
    "😀🎉 ünïcödé \u0958 \ufb2c" * 50,
    "",
    " \n\t" * 30,
]


def write_model(folder: Path, *, template: str | None = TEMPLATE, nfc: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLES[:3], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder
