"""TLS: what a client gets, what it must show, what a mistake says, what a reload changes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from cluster.config import TlsSection
from cluster.core.errors import SetupError
from services.gateway.tls import build_context, reload
from tests.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def section(files: tuple[str, str], client_ca: Path | None = None) -> TlsSection:
    return TlsSection(
        cert_file=files[0], key_file=files[1], client_ca_file=None if client_ca is None else str(client_ca)
    )


def client(authority: Authority, files: tuple[str, str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if files is not None:
        context.load_cert_chain(*files)
    return context


@asynccontextmanager
async def echo(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server's port; it sends back one line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, context: ssl.SSLContext) -> tuple[str, str | None, str]:
    """The TLS version, the protocol agreed on, and whose certificate it was."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    used = writer.get_extra_info("ssl_object")
    name = dict(pair[0] for pair in used.getpeercert()["subject"])["commonName"]
    writer.close()
    return used.version(), used.selected_alpn_protocol(), name


async def test_a_client_is_served_with_http_1_over_a_modern_tls(authority: Authority) -> None:
    async with echo(build_context(section(authority.issue("one")))) as port:
        assert await ask(port, client(authority)) == ("TLSv1.3", "http/1.1", "one")
        older = client(authority)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await ask(port, older))[0] == "TLSv1.2"


def test_old_tls_is_off(authority: Authority) -> None:
    assert build_context(section(authority.issue("one"))).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_client_certificate_is_required_where_a_ca_is_named(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "strangers").mkdir()
    stranger = Authority(tmp_path / "strangers", "ca").issue("mallory")
    async with echo(build_context(section(authority.issue("one"), authority.file))) as port:
        assert (await ask(port, client(authority, authority.issue("alice"))))[2] == "one"
        for files in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                await ask(port, client(authority, files))


async def test_a_reload_gives_new_connections_the_new_certificate(authority: Authority) -> None:
    context = build_context(section(authority.issue("one")))
    async with echo(context) as port:
        assert (await ask(port, client(authority)))[2] == "one"
        reload(context, section(authority.issue("two")))
        assert (await ask(port, client(authority)))[2] == "two"


async def test_a_reload_of_broken_files_changes_nothing(authority: Authority) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    context = build_context(section(one))
    async with echo(context) as port:
        with pytest.raises(SetupError):
            reload(context, section((two[0], one[1])))
        assert (await ask(port, client(authority)))[2] == "one"


def test_mistakes_say_which_file_and_what_to_do(authority: Authority, tmp_path: Path) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    locked = authority.issue("locked", serialization.BestAvailableEncryption(b"secret"))
    for wrong, says in (
        (section((one[0], two[1])), "does not belong to the certificate"),
        (section(("missing.crt", one[1])), "gateway.tls.cert_file: missing.crt cannot be read: No such file"),
        (section((one[0], "missing.key")), "gateway.tls.key_file: missing.key cannot be read: No such file"),
        (section((str(tmp_path), one[1])), "cannot be read: Is a directory"),
        (section((str(nonsense), one[1])), "are not a PEM certificate and its key"),
        (section((one[0], str(nonsense))), "are not a PEM certificate and its key"),
        (section(locked), "is encrypted"),
        (section(one, tmp_path / "missing.pem"), "gateway.tls.client_ca_file: "),
        (section(one, nonsense), "holds no PEM certificate"),
    ):
        with pytest.raises(SetupError) as caught:
            build_context(wrong)
        assert says in caught.value.problem
        assert caught.value.remedy
