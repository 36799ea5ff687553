"""`make image`: builds the engine's and the gateway's image with podman or docker, and prints their sizes.

What lives here: arguments for one builder or the other, and what the build gets of this machine's ways to packages.
What must not: what is in an image (Containerfile).
"""

from __future__ import annotations

import argparse
import ast
import datetime as dt
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from engines import EngineMissingError, find_engine, limit_arguments

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "deploy/image/Containerfile"
BUILD_TIMEOUT_S = 7200
"""Minutes where packages are near; the CUDA variant is 10 GB, and a slow link takes its time."""
INSPECT_TIMEOUT_S = 60
SECRETS = {"pip_conf": "pip.conf", "ca": "ca.crt", "apt_sources": "apt.sources"}
"""Options, and the ids of the Containerfile's secrets."""
BYTES_PER_MB = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image to build."""

    target: str
    name: str
    accelerator: str | None = None


def main() -> int:
    """Build; the exit status is 0 when every image is there."""
    options = _parse()
    try:
        engine = find_engine(options.engine)
    except EngineMissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    if options.pip_like_here:
        return _with_pip_like_here(engine, options)
    return _build(engine, options)


def _with_pip_like_here(engine: str, options: argparse.Namespace) -> int:
    """Build with what pip is configured with on this machine, as far as it means something inside a build."""
    with tempfile.NamedTemporaryFile("w", prefix="longreach-pip-", suffix=".conf", encoding="utf-8") as file:
        settings = pip_settings()
        lines = [f"{key} = {settings[key]}" for key in ("index-url", "extra-index-url") if key in settings]
        file.write("\n".join(["[global]", *lines, ""]))
        file.flush()
        options.pip_conf = options.pip_conf or Path(file.name)
        options.ca = options.ca or _path(settings.get("cert"))
        options.wheels = options.wheels or _path(settings.get("find-links"))
        return _build(engine, options)


def pip_settings() -> dict[str, str]:
    """What pip here is told by its files and by the environment; addresses of files are left out."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, check=False, timeout=INSPECT_TIMEOUT_S, capture_output=True, text=True)
    settings: dict[str, str] = {}
    for line in told.stdout.splitlines():  # nothing where there is no pip
        name, _, value = line.partition("=")
        addresses = [part for part in ast.literal_eval(value).split() if not part.startswith("file:")]
        if addresses:
            settings[name.rpartition(".")[2]] = " ".join(addresses)
    return settings


def _path(text: str | None) -> Path | None:
    return Path(text) if text and Path(text).exists() else None


def _build(engine: str, options: argparse.Namespace) -> int:
    version = _version()
    known = {
        "engine": Image(
            target="engine",
            name=f"{options.prefix}longreach:{version}-{options.accelerator}",
            accelerator=options.accelerator,
        ),
        "gateway": Image(target="gateway", name=f"{options.prefix}longreach-gateway:{version}"),
    }
    images = [known[options.only]] if options.only else list(known.values())
    for image in images:
        print(f"building {image.name} with {engine}", flush=True)
        built = subprocess.run(
            build_command(engine, image, options, labels=_labels(version)),
            check=False,
            timeout=BUILD_TIMEOUT_S,
            cwd=ROOT,
        )
        if built.returncode != 0:
            print(f"image: {engine} build ended with {built.returncode}\n  remedy: {_remedy(options)}", file=sys.stderr)
            return 1
    for image in images:
        print(f"{image.name}  {_size_bytes(engine, image.name) / BYTES_PER_MB:.0f} MB uncompressed")
    return 0


def build_command(engine: str, image: Image, options: argparse.Namespace, *, labels: dict[str, str]) -> list[str]:
    """The builder's command line for one image."""
    command = [engine, "build", "--file", str(CONTAINERFILE), "--target", image.target, "--tag", image.name]
    arguments = dict(labels)
    if image.accelerator:
        arguments["ACCELERATOR"] = image.accelerator
    if options.base_image:
        arguments["BASE_IMAGE"] = options.base_image
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch and engine == "podman":
        command += ["--timestamp", epoch]
    elif epoch:
        arguments["SOURCE_DATE_EPOCH"] = epoch
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for option, secret in SECRETS.items():
        if getattr(options, option):
            command += ["--secret", f"id={secret},src={getattr(options, option).resolve()}"]
    if options.wheels:
        command += ["--build-context", f"wheels={options.wheels.resolve()}"]
    return [*command, *limit_arguments(engine), *options.builder_arguments, str(ROOT)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/image/build.py", description="Build Longreach's images.")
    parser.add_argument("--only", choices=("engine", "gateway"), help="build this image alone")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu", help="of the engine; default: cpu")
    parser.add_argument("--engine", choices=("podman", "docker"), help="default: podman, else docker")
    parser.add_argument("--prefix", default="localhost/", help="registry and folder of the names; default: %(default)s")
    parser.add_argument("--base-image", help="instead of debian:bookworm-slim, best by digest")
    parser.add_argument("--pip-conf", type=Path, help="pip's configuration while building")
    parser.add_argument("--ca", type=Path, help="certificate authorities while building")
    parser.add_argument("--apt-sources", type=Path, help="Debian mirrors while building, in the one-line format")
    parser.add_argument("--pip-like-here", action="store_true", help="pip's settings here for what is not given")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to prefer")
    parser.add_argument(
        "--builder-arg", dest="builder_arguments", action="append", default=[], help="passed on as it is"
    )
    return parser.parse_args()


def _remedy(options: argparse.Namespace) -> str:
    if options.base_image is None:
        return (
            "see its last lines; where no registry can be reached, `deploy/image/base_image.py` makes the base image,\n"
            "  and docs/image.md says how a mirror is given to the build"
        )
    return "see its last lines, and docs/image.md for how a mirror is given to the build"


def _labels(version: str) -> dict[str, str]:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = dt.datetime.fromtimestamp(int(epoch), tz=dt.UTC) if epoch else dt.datetime.now(tz=dt.UTC)
    labels = {"VERSION": version, "REVISION": _revision(), "CREATED": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
    source = os.environ.get("LONGREACH_IMAGE_SOURCE")
    return labels | ({"SOURCE": source} if source else {})


def _version() -> str:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(document["project"]["version"])


def _revision() -> str:
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}-dirty" if _git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def _size_bytes(engine: str, name: str) -> int:
    command = [engine, "image", "inspect", "--format", "{{.Size}}", name]
    done = subprocess.run(command, check=True, timeout=INSPECT_TIMEOUT_S, capture_output=True, text=True)
    return int(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
