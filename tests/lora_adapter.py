"""A LoRA adapter that changes what a model says.

What must not live here: tests.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

RANK = 8


def write_adapter(folder: Path, model: Path, seed: int) -> None:
    """An adapter with random, strong weights on the query projections."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    hidden, heads, head_dim = config["hidden_size"], config["num_attention_heads"], config["head_dim"]
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, hidden, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(heads * head_dim, RANK, generator=generator)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
