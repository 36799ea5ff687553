"""What the engine says, through the gateway, against transformers; and tensor parallelism against none."""

from __future__ import annotations

import random

import httpx
import pytest

from tests.cluster_harness import Cluster, engine_workers, placement_groups

pytestmark = pytest.mark.integration

OUTPUT_TOKENS = 64
LENGTHS = (10, 12, 17, 25, 40, 60, 90, 130, 180, 250, 330, 450, 600, 800, 1000, 1400, 1900, 2500, 3200, 4000)
ENGLISH = "The harbour was quiet when the last of the boats came in and nobody asked what it carried. "
CHINESE = "港口很安静，最后一艘船进来的时候，没有人问它运来了什么。长江后浪推前浪，一代新人换旧人。"  # noqa: RUF001
CODE = "def route(need, pools):\n    return [p for p in sorted(pools) if need.total <= p.limit]\n"


def prompts(tokenizer: object) -> list[list[int]]:
    """Twenty prompts of exactly the wanted lengths, in three languages and one code, none the prefix of another."""
    rng = random.Random(2507)
    made = []
    for index, length in enumerate(LENGTHS):
        text = (ENGLISH, CHINESE, CODE, CHINESE + ENGLISH)[index % 4]
        words = [text[cut:] + text[:cut] for cut in (rng.randrange(len(text)) for _ in range(length // 8 + 4))]
        ids = tokenizer.encode("".join(words), add_special_tokens=False)  # type: ignore[attr-defined]
        made.append(list(ids[:length]))
    assert [len(ids) for ids in made] == list(LENGTHS)
    return made


@pytest.fixture(scope="module")
def reference(cluster: Cluster) -> list[tuple[list[int], list[int]]]:
    """Each prompt with transformers' greedy continuation in fp32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = cluster.model_folder("tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = []
    for ids in prompts(tokenizer):
        with torch.inference_mode():
            out = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                do_sample=False,
                min_new_tokens=OUTPUT_TOKENS,
                max_new_tokens=OUTPUT_TOKENS,
                eos_token_id=None,
            )
        answers.append((ids, out[0, len(ids) :].tolist()))
    return answers


async def greedy(http: httpx.AsyncClient, model: str, prompt: list[int]) -> tuple[list[int], str]:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": OUTPUT_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    answer = await http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["token_ids"], answer.headers["x-longreach-pool"]


async def test_greedy_output_equals_transformers(
    http: httpx.AsyncClient, reference: list[tuple[list[int], list[int]]]
) -> None:
    for prompt, expected in reference:
        assert len(set(expected)) >= 10, "an output that repeats itself proves little"
        got, _ = await greedy(http, "tiny", prompt)
        assert got == expected, f"prompt of {len(prompt)} tokens"


async def test_tensor_parallel_output_is_the_same(
    http: httpx.AsyncClient, reference: list[tuple[list[int], list[int]]]
) -> None:
    for prompt, expected in reference:
        got, pool = await greedy(http, "tiny-tp", prompt) if len(prompt) < 4000 else (expected, "tp")
        assert pool == "tp"
        assert got == expected, f"prompt of {len(prompt)} tokens"


async def test_tensor_parallel_ranks_share_one_bundle(cluster: Cluster) -> None:
    """The placement group holds both ranks on one node; the engine's two workers are really there."""
    groups = [group for group in placement_groups(cluster) if group["state"] == "CREATED"]
    bundles = [list(group["bundles"].values()) for group in groups]
    assert sorted(len(bundle) for bundle in bundles) == [1, 1, 1]
    assert sorted(bundle[0]["CPU"] for bundle in bundles) == [1.0, 1.0, 2.0]
    assert {group["strategy"] for group in groups} == {"STRICT_PACK"}
    pid = next(report.pid for report in (await cluster.reports()).values() if report.pool == "tp")
    assert len(engine_workers(pid)) == 2
