"""TLS on the gRPC listener: whom a certificate names, what is refused, what a reload changes; and REST's the same."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from cluster.config import TlsSection, parse_config
from cluster.config.keys import KeySection, KeysFile, digest_of, save_keys
from cluster.core.errors import ConfigError
from services.grpc.generated.longreach.v1 import admin_pb2, admin_pb2_grpc, chat_pb2, inference_pb2_grpc
from services.grpc.server import GrpcServer
from tests.authority import Authority
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Running, leases_of, running
from tests.gateway_process import gateway_process
from tests.grpc_answers import details_of, refused

pytestmark = pytest.mark.integration

KEY = "lr-an-administrator's"
REQUEST = chat_pb2.ChatRequest(model="tiny", messages=[chat_pb2.ChatMessage(role="user", content="hi")])
TENANTS = "tenants: [{name: acme, requests_per_minute: 2}, {name: other}]\n"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def config_of(folder: Path, ours: Authority, *, certificates: bool = True) -> str:
    """A gateway that asks for certificates of `ours`, and has one key, an administrator's."""
    key = KeySection(
        id="boss", tenant="other", sha256=digest_of(KEY).hex(), created=dt.datetime.now(dt.UTC).date(), role="admin"
    )
    save_keys(folder / "keys.yaml", KeysFile(keys=[key]))
    cert, private = ours.issue("gateway")
    return (
        f"{TWO_POOLS}{TENANTS}gateway:\n"
        f"  tls: {{cert_file: {cert}, key_file: {private}, client_ca_file: {ours.file}}}\n"
        f"  auth: {{keys_file: {folder / 'keys.yaml'}, certificate_tenants: {str(certificates).lower()}}}\n"
    )


def credentials(ours: Authority, files: tuple[str, str] | None) -> grpc.ChannelCredentials:
    cert, private = (None, None) if files is None else (Path(name).read_bytes() for name in files)
    return grpc.ssl_channel_credentials(ours.file.read_bytes(), private, cert)


@asynccontextmanager
async def called(gateway: Running, ours: Authority, files: tuple[str, str] | None) -> AsyncIterator[grpc.aio.Channel]:
    address = f"localhost:{gateway.grpc_address.rpartition(':')[2]}"
    async with grpc.aio.secure_channel(address, credentials(ours, files)) as channel:
        yield channel


async def test_a_certificate_names_the_tenant(tmp_path: Path, ours: Authority) -> None:
    async with (
        serve(FakeEngine()) as engine,
        running(config_of(tmp_path, ours), store=leases_of(short=engine)) as gateway,
    ):
        async with called(gateway, ours, ours.issue("acme")) as channel:
            stub = inference_pb2_grpc.InferenceStub(channel)
            assert (await stub.Chat(REQUEST)).usage.completion_tokens == 5
            await stub.Chat(REQUEST)
            # The limit is acme's, so acme is who this is.
            error = await refused(stub.Chat(REQUEST))
            assert details_of(error)["ErrorInfo"].reason == "REQUESTS_PER_MINUTE"
            admin = admin_pb2_grpc.AdminStub(channel)
            error = await refused(admin.Pools(admin_pb2.PoolsRequest()))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            # A key counts before the certificate.
            with_key = (("authorization", f"Bearer {KEY}"),)
            assert (await stub.Chat(REQUEST, metadata=with_key)).usage.completion_tokens == 5
            assert (await admin.Pools(admin_pb2.PoolsRequest(), metadata=with_key)).pools
            error = await refused(stub.Chat(REQUEST, metadata=(("x-api-key", "lr-wrong"),)))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        async with called(gateway, ours, ours.issue("No Tenant")) as channel:
            error = await refused(inference_pb2_grpc.InferenceStub(channel).Chat(REQUEST))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_no_certificate_no_call(tmp_path: Path, ours: Authority) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = Authority(tmp_path / "theirs", "theirs")
    async with (
        serve(FakeEngine()) as engine,
        running(config_of(tmp_path, ours), store=leases_of(short=engine)) as gateway,
    ):
        for files in (None, theirs.issue("acme")):
            async with called(gateway, ours, files) as channel:
                error = await refused(inference_pb2_grpc.InferenceStub(channel).Chat(REQUEST, timeout=5))
                assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert engine.seen == []


async def test_certificates_name_nobody_unless_that_is_configured(tmp_path: Path, ours: Authority) -> None:
    config = config_of(tmp_path, ours, certificates=False)
    async with (
        serve(FakeEngine()) as engine,
        running(config, store=leases_of(short=engine)) as gateway,
        called(gateway, ours, ours.issue("acme")) as channel,
    ):
        error = await refused(inference_pb2_grpc.InferenceStub(channel).Chat(REQUEST))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path, ours: Authority) -> None:
    config = parse_config(config_of(tmp_path, ours))
    (tmp_path / "new").mkdir()
    new = Authority(tmp_path / "new", "new")
    async with (
        serve(FakeEngine()) as engine,
        running(config_of(tmp_path, ours), store=leases_of(short=engine)) as gateway,
    ):
        grpc_server: GrpcServer = gateway.grpc_server
        cert, private = new.issue("gateway")
        assert config.gateway.tls is not None
        grpc_server.reload_tls(
            TlsSection(cert_file=cert, key_file=private, client_ca_file=config.gateway.tls.client_ca_file)
        )
        async with called(gateway, ours, ours.issue("acme")) as channel:
            error = await refused(inference_pb2_grpc.InferenceStub(channel).Chat(REQUEST, timeout=5))
            assert error.code() is grpc.StatusCode.UNAVAILABLE, "the old authority cannot vouch for the new certificate"
        async with called(gateway, new, ours.issue("acme")) as channel:
            assert (await inference_pb2_grpc.InferenceStub(channel).Chat(REQUEST)).usage.completion_tokens == 5


async def test_rest_takes_the_same_certificates(tmp_path: Path, ours: Authority) -> None:
    async with serve(FakeEngine()) as engine:
        text = config_of(tmp_path, ours).replace(
            "- {name: short, model: tiny, context_tokens: 1000}",
            f"- {{name: short, model: tiny, context_tokens: 1000, endpoints: [{{url: '{engine.url}'}}]}}",
        )
        config = parse_config(text).model_dump(mode="json", exclude_unset=True)
        config["gateway"] |= {"port": 0, "admin": {"port": 0}}
        async with gateway_process(tmp_path, config, LONGREACH_STATE=str(tmp_path)) as gateway:
            context = ssl.create_default_context(cafile=str(ours.file))
            context.load_cert_chain(*ours.issue("acme"))
            body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
            async with httpx.AsyncClient(verify=context) as client:
                answer = await client.post(f"https://localhost:{gateway.port}/v1/chat/completions", json=body)
                assert answer.status_code == 200, answer.text
            await gateway.logged("tenant=acme key=certificate")


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        ("{auth: {certificate_tenants: true, keys_file: k.yaml}}", "tls.client_ca_file"),
        ("{auth: {certificate_tenants: true}, tls: {cert_file: c, key_file: k, client_ca_file: a}}", "keys_file"),
    ],
)
def test_what_certificates_need_is_said(section: str, missing: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{TWO_POOLS}gateway: {section}\n")
    assert missing in str(caught.value)
