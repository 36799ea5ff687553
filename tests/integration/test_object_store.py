"""A model in an S3 bucket, pulled over HTTP from a server that speaks S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import obstore
import pytest
from obstore.store import S3Store

from cluster.core.errors import ModelStoreError, SourceAwayError
from cluster.models.hub import HubSettings
from cluster.models.manifest import MANIFEST_NAME
from cluster.models.store import ModelStore
from cluster.models.tokenizer_store import TokenizerStore
from tests.cluster_harness import until
from tests.kubernetes.conftest import or_skip
from tests.own_packages import installed
from tests.s3_server import LOCK, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

OFFLINE = HubSettings(offline=True)
START_LIMIT_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    or_skip(lambda: installed("moto", LOCK))
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
async def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the tiny model; the variables are those that a pod gets."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "whose",
        "AWS_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"models-{tmp_path.name.strip('_').replace('_', '-')}"

    async def is_made() -> bool:
        async with httpx.AsyncClient() as http:
            try:
                return (await http.put(f"{server}/{name}")).is_success
            except httpx.HTTPError:
                return False

    await until(is_made, timeout_s=START_LIMIT_S, what="the S3 server makes a bucket")
    remote = S3Store(name, client_options={"allow_http": True})
    for file in ModelStore(tmp_path / "origin", settings=OFFLINE).pull("tiny").iterdir():
        obstore.put(remote, f"team/tiny/{file.name}", file)
    return f"s3://{name}/team/tiny"


def test_a_model_comes_as_it_was_uploaded(bucket: str, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "here", settings=OFFLINE)
    stages: set[str] = set()
    folder = store.pull(bucket, progress=lambda stage, _done, _total: stages.add(stage))
    origin = ModelStore(tmp_path / "origin", settings=OFFLINE).path("tiny")
    content = {file.name: file.read_bytes() for file in origin.iterdir() if file.name != MANIFEST_NAME}
    assert content == {name: (folder / name).read_bytes() for name in content}
    assert "model.safetensors" in content
    assert "downloading" in stages
    # What is here is not asked for again.
    assert store.pull(bucket) == folder


def test_a_gateway_takes_its_tokenizer_only(bucket: str, tmp_path: Path) -> None:
    folder = TokenizerStore(tmp_path / "here", settings=OFFLINE).pull(bucket)
    assert (folder / "tokenizer.json").exists()
    assert not list(folder.glob("*.safetensors"))


def test_another_upload_is_another_revision(bucket: str, tmp_path: Path) -> None:
    first = ModelStore(tmp_path / "one", settings=OFFLINE).pull(bucket)
    name = bucket.split("/")[2]
    changed = (first / "config.json").read_bytes() + b"\n"
    store = S3Store(name, client_options={"allow_http": True})
    obstore.put(store, "team/tiny/config.json", changed)
    obstore.delete(store, f"team/tiny/{MANIFEST_NAME}")
    assert ModelStore(tmp_path / "two", settings=OFFLINE).pull(bucket).name != first.name


@pytest.mark.parametrize("url", ["s3://no-such-bucket/team/tiny", "{bucket}/nothing-here"])
def test_what_is_not_there_is_no_outage(bucket: str, tmp_path: Path, url: str) -> None:
    with pytest.raises(ModelStoreError) as caught:
        ModelStore(tmp_path / "here", settings=OFFLINE).pull(url.format(bucket=bucket))
    assert not isinstance(caught.value, SourceAwayError)
    assert "remedy" in str(caught.value)
