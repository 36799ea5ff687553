"""`--watch`: a ConfigMap or Secret as Kubernetes mounts it, swapped under a running gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.authority import Authority
from tests.cluster_harness import until
from tests.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.integration
WAIT_S = 20


class Volume:
    """A folder as the kubelet makes it: files are links into `..data`, which is a link that is swapped."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        self._revision = 0
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(Path("..data") / name)

    def swap(self, files: Mapping[str, str]) -> None:
        """Replace all files at once; the folder they were in goes away."""
        old = self.folder / f"..{self._revision}"
        self._revision += 1
        fresh = self.folder / f"..{self._revision}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        partial = self.folder / "..data_tmp"
        partial.symlink_to(fresh.name)
        partial.rename(self.folder / "..data")
        shutil.rmtree(old, ignore_errors=True)


def config(alias: str, **gateway: Any) -> dict[str, Any]:
    return {
        "models": [{"id": "tiny", "aliases": [alias]}],
        "pools": [
            {"name": "short", "model": "tiny", "context_tokens": 64, "endpoints": [{"url": "http://127.0.0.1:9"}]}
        ],
        "gateway": {"port": 0, "admin": {"port": 0}, **gateway},
    }


async def aliases(gateway: GatewayProcess, tries: int = 1) -> set[frozenset[str]]:
    """The models' names, of as many connections, which go to different workers."""
    found = set()
    for _ in range(tries):
        async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
            listed = (await client.get("/v1/models")).json()["data"]
        found.add(frozenset(str(entry["id"]) for entry in listed))
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_config_map_that_is_swapped(tmp_path: Path, workers: int) -> None:
    def text(alias: str) -> dict[str, str]:
        return {"longreach.yaml": json.dumps(config(alias, workers=workers))}

    volume = Volume(tmp_path / "config", text("first"))
    state = {"LONGREACH_STATE": str(tmp_path)}
    tries = 20 if workers > 1 else 1
    async with gateway_process(volume.folder, config("first", workers=workers), "--watch", **state) as gateway:
        assert await aliases(gateway, tries) == {frozenset({"tiny", "first"})}
        volume.swap(text("second"))

        async def has_second() -> bool:
            return await aliases(gateway, tries) == {frozenset({"tiny", "second"})}

        await until(has_second, timeout_s=WAIT_S, what="the new alias")
        volume.swap({"longreach.yaml": "pools: 3\n"})

        async def is_told() -> bool:
            return gateway.log.read_text().count("longreach.yaml:1: pools: ") == workers

        await until(is_told, timeout_s=WAIT_S, what="the mistake, by every worker")
        volume.swap(text("third"))

        async def has_third() -> bool:
            return await aliases(gateway, tries) == {frozenset({"tiny", "third"})}

        await until(has_third, timeout_s=WAIT_S, what="the alias after the mistake")
        log = gateway.log.read_text()
        assert log.count("longreach.yaml:1: pools: ") == workers, "a mistake is told once, and not at every look"
        assert log.count("configuration reloaded") == 2 * workers


async def test_a_certificate_that_is_swapped(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")

    def secret(authority: Authority, key_of: Authority | None = None) -> dict[str, str]:
        cert_file, key_file = authority.issue(f"localhost-{authority.file.stem}")
        if key_of is not None:
            key_file = key_of.issue("another")[1]
        return {"tls.crt": Path(cert_file).read_text(), "tls.key": Path(key_file).read_text()}

    volume = Volume(tmp_path / "tls", secret(old))
    tls = {"cert_file": str(volume.folder / "tls.crt"), "key_file": str(volume.folder / "tls.key")}

    async def trusts(authority: Authority, gateway: GatewayProcess) -> bool:
        context = ssl.create_default_context(cafile=str(authority.file))
        try:
            async with httpx.AsyncClient(verify=context, timeout=20) as client:
                return (await client.get(f"https://localhost:{gateway.port}/v1/models")).status_code == 200
        except httpx.ConnectError:
            return False

    state = {"LONGREACH_STATE": str(tmp_path)}
    async with gateway_process(tmp_path, config("a", tls=tls), "--watch", **state) as gateway:
        assert await trusts(old, gateway)
        volume.swap(secret(new, key_of=old))
        await gateway.logged("TLS files not reloaded")
        assert await trusts(old, gateway)
        volume.swap(secret(new))

        async def is_new() -> bool:
            return await trusts(new, gateway)

        await until(is_new, timeout_s=WAIT_S, what="the new certificate")
        assert gateway.log.read_text().count("TLS files not reloaded") == 1


async def test_without_the_option_only_a_signal_counts(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "config", {"longreach.yaml": "{}"})
    async with gateway_process(volume.folder, config("first"), LONGREACH_STATE=str(tmp_path)) as gateway:
        volume.swap({"longreach.yaml": json.dumps(config("second"))})
        await asyncio.sleep(3)  # nothing comes that could be waited for
        assert await aliases(gateway) == {frozenset({"tiny", "first"})}
