"""`make image`: what the builder is told. The builds themselves are in tests/integration/test_image.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "deploy/image/build.py"

STAND_IN = """#!{python}
import json, os, sys
if sys.argv[1:3] == ["image", "inspect"]:
    print(123_000_000)
else:
    with open({log!r}, "a") as log:
        print(json.dumps(sys.argv[1:]), file=log)
    sys.exit(int(os.environ.get("BUILD_STATUS", "0")))
"""


@pytest.fixture
def builders(tmp_path: Path) -> Path:
    """A folder with a `podman` and a `docker` that write down what they are asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("podman", "docker"):
        text = STAND_IN.format(python=sys.executable, log=str(tmp_path / f"{name}.log"))
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def build(path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(path), **variables}
    return subprocess.run(
        [sys.executable, str(BUILD), *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def asked(tmp_path: Path, builder: str = "podman") -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / f"{builder}.log").read_text(encoding="utf-8").splitlines()]


def test_without_a_builder_there_is_a_remedy(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 1
    assert "neither podman nor docker" in done.stderr
    assert "remedy: apt-get install podman" in done.stderr
    assert "Traceback" not in done.stderr


def test_both_images_and_their_sizes(builders: Path, tmp_path: Path) -> None:
    done = build(builders)
    assert done.returncode == 0, done.stderr
    first, second = asked(tmp_path)
    assert "ACCELERATOR=cpu" in first
    assert first[first.index("--target") + 1] == "engine"
    assert second[second.index("--target") + 1] == "gateway"
    assert done.stdout.splitlines()[-2:] == [
        "localhost/longreach:0.1.0-cpu  123 MB uncompressed",
        "localhost/longreach-gateway:0.1.0  123 MB uncompressed",
    ]


def test_what_a_site_gives_goes_in_as_secrets(builders: Path, tmp_path: Path) -> None:
    given = ["--pip-conf", "p.conf", "--ca", "ca.pem", "--apt-sources", "a.list", "--wheels", str(tmp_path)]
    assert build(builders, "--only", "engine", "--accelerator", "gpu", "--engine", "docker", *given).returncode == 0
    (command,) = asked(tmp_path, "docker")
    assert "ACCELERATOR=gpu" in command
    assert [part.partition(",")[0] for part in command if part.startswith("id=")] == [
        "id=pip.conf",
        "id=ca.crt",
        "id=apt.sources",
    ]
    assert f"wheels={tmp_path}" in command
    assert not [part for part in command if part.startswith("PIP_")], "build arguments are kept in an image's history"
    assert "--ulimit" not in command, "docker has limits of its own"


@pytest.mark.parametrize(("builder", "words"), [("podman", ["--timestamp", "1000"]), ("docker", ["--build-arg"])])
def test_a_build_can_be_dated(builders: Path, tmp_path: Path, builder: str, words: list[str]) -> None:
    done = build(builders, "--only", "gateway", "--engine", builder, SOURCE_DATE_EPOCH="1000")
    assert done.returncode == 0, done.stderr
    (command,) = asked(tmp_path, builder)
    assert set(words) <= set(command)
    assert "CREATED=1970-01-01T00:16:40Z" in command


def test_a_failed_build_says_what_to_look_at(builders: Path) -> None:
    done = build(builders, BUILD_STATUS="125")
    assert done.returncode == 1
    assert "remedy:" in done.stderr
    assert "uncompressed" not in done.stdout
