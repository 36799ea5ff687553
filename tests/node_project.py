"""The Node programs of tests/node, with their packages, for a test to run against any gateway.

Packages are fetched once and kept in the user's cache by the lock's hash. What must not live here: tests, gateways.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from google.rpc import error_details_pb2

from services.grpc.generate import PROTO

SOURCE = Path(__file__).parent / "node"
DETAILS = Path(error_details_pb2.__file__).parents[2]
"""Where google/rpc/error_details.proto is: googleapis-common-protos has it beside its module."""
DIRECT = {"no_grpc_proxy": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
"""gRPC's clients obey http_proxy, also on the way to a loopback address."""
NODE_LEAST = 20
"""As tests/node/package.json has it."""
INSTALL_LIMIT_S = 300
RUN_LIMIT_S = 300
"""Four questions to a real model on two cores that other work keeps busy."""
KEPT_MAX = 3
"""Sets of packages in the cache, 140 MB each: a few branches with other locks may take turns."""
UNREACHABLE = frozenset({
    "E401", "E403", "E407", "E429", "E500", "E502", "E503", "E504", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET",
    "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "EPIPE", "ERR_SOCKET_TIMEOUT", "ETIMEDOUT",
})  # fmt: skip
"""npm's codes for no registry, or one that is closed to this machine. Whatever else goes wrong is a fault of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProject:
    """A copy of tests/node that is ready to run."""

    folder: Path

    async def run(self, *command: str) -> str:
        """What a command writes, run in the folder with the packages' own programs on its path; it must end well."""
        path = f"{self.folder / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env={**os.environ, **DIRECT, "PATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(RUN_LIMIT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{command} ended with {process.returncode}:\n{out.decode()}\n{err.decode()}"
        return out.decode()

    async def chat(self, address: str, *, model: str, key: str | None = None) -> dict[str, Any]:
        """What tests/node/chat.js met at the gateway of this address: `streamed`, `whole`, `left` and `refused`.

        Args:
            address: host and port where gRPC is served without TLS.
            model: whom to ask; a pool of it must hold 2,100 tokens, and its output not be capped below 2,000.
            key: an API key, where the gateway has keys.
        """
        arguments = ["--protos", str(PROTO), "--details", str(DETAILS), *_who(model, key)]
        found: dict[str, Any] = json.loads(await self.run("node", "chat.js", address, *arguments))
        return found

    async def chat_generated(self, address: str, *, model: str, key: str | None = None) -> dict[str, Any]:
        """What tests/node/generated.mjs, whose code is generated from the .proto files first, read of a stream."""
        await self.run("buf", "generate", str(PROTO))
        found: dict[str, Any] = json.loads(await self.run("node", "generated.mjs", address, *_who(model, key)))
        return found


def node_project(folder: Path) -> NodeProject:
    """Make a copy of tests/node in an empty folder; skips the test where Node or its packages cannot be had."""
    packages = _packages()
    for path in SOURCE.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(packages, target_is_directory=True)
    return NodeProject(folder=folder)


def _who(model: str, key: str | None) -> list[str]:
    return ["--model", model, *([] if key is None else ["--key", key])]


def _packages() -> Path:
    """The folder node_modules for the lock as it is now."""
    _require_node()
    digest = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        digest.update((SOURCE / name).read_bytes())
    cache = platformdirs.user_cache_path("longreach") / "node-tests"
    kept = cache / digest.hexdigest()[:16]
    if not kept.exists():
        _install(kept)
        for old in sorted(_sets(cache), key=lambda path: path.stat().st_mtime)[:-KEPT_MAX]:
            shutil.rmtree(old, ignore_errors=True)
    return kept / "node_modules"


def _sets(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if not path.name.startswith(".")]


def _install(kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Beside its later place, so that it is there whole or not at all, also where two runs install at once.
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=kept.parent) as name:
        folder = Path(name) / "packages"
        folder.mkdir()
        for source in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(SOURCE / source, folder)
        command = ["npm", "ci", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=60000"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm fetched no packages within {INSTALL_LIMIT_S} s")
        if done.returncode != 0:
            code = re.search(r"^npm (?:error|ERR!) code (\w+)$", done.stderr, re.MULTILINE)
            if code is not None and code[1] in UNREACHABLE:
                pytest.skip(f"npm cannot fetch packages here: {code[1]}")
            pytest.fail(f"`npm ci` in tests/node failed:\n{done.stdout}\n{done.stderr}")
        if not kept.exists():
            folder.rename(kept)


def _require_node() -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(told.removeprefix("v").partition(".")[0]) < NODE_LEAST:
        pytest.skip(f"the packages of tests/node need Node {NODE_LEAST}, here is {told}")
