"""`longreach plan` as it is typed: tables, JSON, files, and what is said to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.plan import gpu_names
from cluster.config import parse_config
from cluster.gpus import find_gpu

MODEL = "qwen3-4b-instruct-2507"
WORK = ("--workload", "5,4000/60000,300/900")


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def test_a_plan_tells_what_fits_and_what_it_does_not_know() -> None:
    done = plan("--model", MODEL, "--gpu", "L4")
    assert done.exit_code == 0, done.output
    assert "36.0 GiB for 262,144 tokens" in done.output
    assert "62,464" in done.output
    assert "say what is to be served" in done.output
    assert "30%" in done.output


def test_a_workload_gets_pools_and_with_prices_a_cost() -> None:
    done = plan("--model", MODEL, "--gpu", "L4", "--gpu", "H100", *WORK, "--price-per-hour", "2")
    assert done.exit_code == 0, done.output
    for word in ("recommended", "alternatives", "one pool", "for a million tokens"):
        assert word in done.output


def test_json_has_the_layouts() -> None:
    done = plan("--model", MODEL, "--gpu", "H100", *WORK, "--json")
    report = json.loads(done.stdout)
    assert report["layouts"][0]["boundaries"]
    assert report["cost"] is None


def test_cards_without_work_get_pools() -> None:
    done = plan("--model", MODEL, "--gpu", "L4:4x2")
    assert done.exit_code == 0, done.output
    assert "what the cards hold" in done.output


@pytest.mark.parametrize("what", ["config", "values"])
def test_files_are_written_and_valid(tmp_path: Path, what: str) -> None:
    path = tmp_path / "out.yaml"
    done = plan("--model", MODEL, "--gpu", "H100", *WORK, "--emit", what, "--output", str(path))
    assert done.exit_code == 0, done.output
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    parse_config(json.dumps(document["config"] if what == "values" else document))
    printed = plan("--model", MODEL, "--gpu", "H100", *WORK, "--emit", what)
    assert yaml.safe_load(printed.stdout) == document
    as_json = plan("--model", MODEL, "--gpu", "H100", *WORK, "--emit", what, "--json")
    assert json.loads(as_json.stdout) == document


def test_plots_show_every_kind_that_the_model_fits(tmp_path: Path) -> None:
    done = plan("--model", MODEL, "--gpu", "RTX3060", "--gpu", "L4", "--gpu", "H100", "--svg", str(tmp_path / "plots"))
    assert done.exit_code == 0, done.output
    contexts, prefill = ((tmp_path / "plots" / f"{MODEL}-{what}.svg").read_text() for what in ("context", "prefill"))
    for name in ("RTX3060", "L4", "H100"):
        assert f">{name}<" in contexts
        assert f">1 x {name}<" in prefill
    assert "the model&#x27;s own 262,144" in contexts


def test_plots_of_a_model_that_fits_nowhere_say_so(tmp_path: Path) -> None:
    done = plan("--model", MODEL, "--gpu", "RTX3060:1", "--gpu-memory-ratio", "0.2", "--svg", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "nothing to show" in (tmp_path / f"{MODEL}-prefill.svg").read_text()


def test_a_trace_is_planned_for(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [{"timestamp": 500 * place, "input_length": 3_000, "output_length": 200} for place in range(500)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    done = plan("--model", MODEL, "--gpu", "H100", "--workload", str(path), "--rate", "4", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["workload"]["requests_per_s"], report["workload"]["prompt_tokens"]) == (4.0, 3_000)


def test_the_catalog_is_listed_with_sources() -> None:
    assert "B200" in plan("gpus").output
    rows = json.loads(plan("gpus", "--json").stdout)
    assert all(row["sources"]["bandwidth"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a model and a kind of GPU"),
        (("--model", MODEL), "name a model and a kind of GPU"),
        (("--model", MODEL, "--gpu", "RTX409"), "did you mean RTX4090"),
        (("--model", MODEL, "--gpu", "L4", "--gpu", "H100:2"), "or with none"),
        (("--model", MODEL, "--gpu", "L4", "--workload", "nothing.jsonl"), "there is no trace nothing.jsonl"),
        (("--model", MODEL, "--gpu", "L4", "--workload", "1,x,2"), "RATE,PROMPT,OUTPUT"),
        (("--model", MODEL, "--gpu", "L4", "--rate", "2"), "are about a --workload"),
        (("--model", MODEL, "--gpu", "L4", "--slo", "tpot=1"), "ttft, ttft_per_1k, itl"),
        (("--model", MODEL, "--gpu", "L4", "--price-per-hour", "L4=free"), "is no price"),
        (("--model", MODEL, "--gpu", "L4", "--emit", "helm"), "config or values"),
        (("--model", MODEL, "--gpu", "L4", "--output", "x.yaml"), "is for the file of --emit"),
        (("--model", MODEL, "--gpu", "L4", "--emit", "config"), "give --workload"),
        (("--model", MODEL, "--gpu", "L4", "--calibration", "none.json"), "plan calibrate --output"),
        (("--model", "no model", "--gpu", "L4"), "names no model"),
    ],
)
def test_mistakes_have_a_remedy(arguments: tuple[str, ...], said: str) -> None:
    done = plan(*arguments)
    assert done.exit_code in {1, 2}
    assert said in " ".join(done.output.replace("│", " ").split()), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(("error", "told"), [(0.05, False), (0.3, True)])
def test_a_bad_fit_is_called_one(error: float, told: bool) -> None:
    from rich.console import Console

    from cluster.cli.plan_view import calibration_view
    from cluster.core.capacity.step import StepCost
    from cluster.planner.calibration import Calibration

    cost = StepCost(base_s=0.01, weights_s=0.1, token_s=0.001, attention_s=1e-8, context_token_s=1e-7)
    made = Calibration(
        model="demo",
        gpu="CPU",
        ranks=1,
        batch_tokens=1_024,
        cost=cost,
        overhead_s=0.0,
        median_error_ratio=error,
        worst_error_ratio=error,
    )
    console = Console(width=200, record=True)
    console.print(calibration_view(made, ()))
    assert ("explained badly" in console.export_text()) == told


def test_the_shell_completes_kinds_in_either_case() -> None:
    assert list(gpu_names("A1")) == ["A10G", "A100-40", "A100-80"]
    assert list(gpu_names("a1")) == ["a10G", "a100-40", "a100-80"]
    assert all(find_gpu(name).name == name.upper() for name in gpu_names("a1"))
