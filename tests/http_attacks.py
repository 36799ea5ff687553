"""Requests no honest client sends: ambiguous framing, smuggled second requests, malformed heads.

What must not live here: sockets, what a gateway answers in detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.raw_http import request

MODEL = "m"
LINE = "POST /v1/chat/completions HTTP/1.1\r\n"
HEAD = LINE + "Host: g\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
LENGTH = "Content-Length: {N}\r\n"
CHUNKS = "{X}\r\n{B}\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Bytes to send, and whether a careful server may serve them.

    In the template, {B} is a body that would be served, {N} its length and {X} that in hexadecimal, {S} a whole second
    request that must never be served, {SN} its length, {V} an address that nobody may be sent to.
    """

    name: str
    template: str
    may_serve: bool = False

    def bytes(self, marker: str, victim: str) -> bytes:
        body = prompt(marker).decode()
        smuggled = good(f"smuggled {marker}").decode()
        filled = {
            "{B}": body,
            "{N}": str(len(body)),
            "{X}": f"{len(body):x}",
            "{S}": smuggled,
            "{SN}": str(len(smuggled)),
            "{V}": victim,
        }
        text = self.template
        for name, value in filled.items():
            text = text.replace(name, value)
        return text.encode("latin-1")


def prompt(words: str) -> bytes:
    """The body of a chat that says `words`."""
    return b'{"model":"%b","messages":[{"role":"user","content":"%b"}]}' % (MODEL.encode(), words.encode())


def good(words: str, **headers: str) -> bytes:
    """A request that is served."""
    return request("/v1/chat/completions", prompt(words), **headers)


def _never(name: str, template: str) -> Attack:
    return Attack(name=name, template=template)


def _perhaps(name: str, template: str) -> Attack:
    return Attack(name=name, template=template, may_serve=True)


def _chunk_sizes() -> Iterator[Attack]:
    for size in ("zz", "-{X}", "+{X}", "0x{X}", "{X}h", "{X} {X}", "", "ffffffffffffffff", "1" + "0" * 15 + "{X}"):
        yield _never(f"chunk size {size!r}", f"{HEAD}{CHUNKED}\r\n{size}\r\n{{B}}\r\n0\r\n\r\n{{S}}")
    yield _perhaps("space before a chunk size", f"{HEAD}{CHUNKED}\r\n {CHUNKS}")
    yield _perhaps("chunk lines that end in LF", f"{HEAD}{CHUNKED}\r\n{{X}}\n{{B}}\n0\n\n")
    yield _perhaps("a chunk extension", f"{HEAD}{CHUNKED}\r\n{{X}};a=b\r\n{{B}}\r\n0\r\n\r\n")
    yield _never("a chunk without its CRLF", f"{HEAD}{CHUNKED}\r\n{{X}}\r\n{{B}}0\r\n\r\n{{S}}")
    yield _never("a chunk longer than its size", f"{HEAD}{CHUNKED}\r\n1\r\n{{B}}\r\n0\r\n\r\n{{S}}")
    yield _never("CR in a chunk size", f"{HEAD}{CHUNKED}\r\n{{X}}\r\r\n{{B}}\r\n0\r\n\r\n{{S}}")


def _trailers() -> Iterator[Attack]:
    for trailer in ("X-Late: 1", "Content-Length: 5", "Transfer-Encoding: chunked", "x-request-id: evil", "Host: evil"):
        yield _perhaps(f"trailer {trailer}", f"{HEAD}{CHUNKED}\r\n{{X}}\r\n{{B}}\r\n0\r\n{trailer}\r\n\r\n")
    yield _never("a trailer without a colon", f"{HEAD}{CHUNKED}\r\n{{X}}\r\n{{B}}\r\n0\r\n{{S}}")


def _lengths() -> Iterator[Attack]:
    yield _never("two different lengths", f"{HEAD}{LENGTH}Content-Length: 0\r\n\r\n{{B}}{{S}}")
    yield _never("two different lengths, the other way", f"{HEAD}Content-Length: 0\r\n{LENGTH}\r\n{{B}}{{S}}")
    yield _perhaps("the same length twice", f"{HEAD}{LENGTH}{LENGTH}\r\n{{B}}")
    yield _perhaps("a list of the same length", f"{HEAD}Content-Length: {{N}}, {{N}}\r\n\r\n{{B}}")
    wrong = ("{N}, 0", "+{N}", "-{N}", "-1", "0x{X}", "{N}.0", "{N}e0", "{N} 1", "1 {N}", "", " ", "{N};", '"{N}"')
    for value in (*wrong, "²", "9" * 30, "9" * 5000, "{N}\x00", "{N}\x0b", "\x0c{N}"):
        shown = value if len(value) < 40 else f"{value[:5]}… ({len(value)} digits)"
        yield _never(f"length {shown!r}", f"{HEAD}Content-Length: {value}\r\n\r\n{{B}}{{S}}")
    yield _never("length 2**64 too long", f"{HEAD}Content-Length: {2**64 + 5}\r\n\r\n{{B}}{{S}}")
    yield _never("length 2**32 too long for the limit", f"{HEAD}Content-Length: {2**32 + 5}\r\n\r\n{{B}}{{S}}")
    yield _perhaps("leading zeros", f"{HEAD}Content-Length: 000{{N}}\r\n\r\n{{B}}")


def _both_framings() -> Iterator[Attack]:
    for name, lines in (("CL.TE", LENGTH + CHUNKED), ("TE.CL", CHUNKED + LENGTH)):
        yield _never(f"{name} with a whole body", f"{HEAD}{lines}\r\n{{B}}")
        yield _never(f"{name} with chunks", f"{HEAD}{lines}\r\n{CHUNKS}{{S}}")
        yield _never(f"{name}, nothing chunked, a second request", f"{HEAD}{lines}\r\n0\r\n\r\n{{S}}")
    yield _never("a length of chunks, a second request in a chunk", f"{HEAD}Content-Length: 4\r\n{CHUNKED}\r\n{{S}}")


def _codings() -> Iterator[Attack]:
    wrong = ("xchunked", "chunked, identity", "identity", "chunked, chunked", "\x0bchunked", "chunked\x0b", '"chunked"')
    for value in (*wrong, "x, y", "chunked;q=1", "chu nked", "chunked\x00", "gzip", "", ",", "chunked\xa0"):
        yield _never(f"coding {value!r}", f"{HEAD}Transfer-Encoding: {value}\r\n\r\n{CHUNKS}{{S}}")
        yield _never(f"coding {value!r} and a length", f"{HEAD}Transfer-Encoding: {value}\r\n{LENGTH}\r\n{{B}}{{S}}")
    for value in ("gzip, chunked", "CHUNKED", "\tchunked", " chunked "):
        yield _perhaps(f"coding {value!r}", f"{HEAD}Transfer-Encoding: {value}\r\n\r\n{CHUNKS}")
    for other in ("identity", "x", "chunked"):
        yield _never(f"codings chunked and {other}", f"{HEAD}{CHUNKED}Transfer-Encoding: {other}\r\n\r\n{CHUNKS}{{S}}")
    yield _perhaps("an underscore for a dash", f"{HEAD}{LENGTH}Transfer_Encoding: chunked\r\n\r\n{{B}}")
    yield _never("a space before the colon", f"{HEAD}{LENGTH}Transfer-Encoding : chunked\r\n\r\n{{B}}{{S}}")
    yield _perhaps("a coding in HTTP/1.0", f"POST /v1/chat/completions HTTP/1.0\r\nHost: g\r\n{CHUNKED}\r\n{CHUNKS}")


def _heads() -> Iterator[Attack]:
    for name, line in (
        ("space before the colon", "Content-Length : {N}"),
        ("tab before the colon", "Content-Length\t: {N}"),
        ("NUL in a value", "Content-Length: {N}\r\nX-A: a\x00b"),
        ("NUL in a name", "Content-Length: {N}\r\nX-\x00A: a"),
        ("no colon", "Content-Length: {N}\r\nNonsense"),
        ("no name", "Content-Length: {N}\r\n: a"),
        ("a space in a name", "Content-Length: {N}\r\nX A: a"),
        ("a letter beyond ASCII in a name", "Content-Length: {N}\r\nX-\xe9: a"),
        ("a bracket in a name", "Content-Length: {N}\r\nX(A): a"),
    ):
        yield _never(name, f"{HEAD}{line}\r\n\r\n{{B}}{{S}}")
    for name, line in (
        ("a folded value", "X-A: a\r\n b"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked"),
        ("a folded second length", "X-A: a\r\n Content-Length: 0"),
        ("CR in a value", "X-A: a\rb"),
        ("a control character in a value", "X-A: a\x01b"),
        ("letters beyond ASCII in a value", "X-A: \xe9\xff"),
        ("an empty value", "X-A:"),
    ):
        yield _perhaps(name, f"{HEAD}{LENGTH}{line}\r\n\r\n{{B}}")
    yield _never("a space before the first header", f"{LINE} Host: g\r\n{LENGTH}\r\n{{B}}{{S}}")
    yield _perhaps("lines that end in LF", f"{HEAD}{LENGTH}\r\n".replace("\r\n", "\n") + "{B}")
    yield _perhaps("a head that ends in LF", f"{HEAD}{LENGTH}\n{{B}}")
    yield _never("lines that end in CR", f"{HEAD}{LENGTH}\r\n".replace("\r\n", "\r") + "{B}{S}")
    yield _perhaps("no Host", f"{LINE}{LENGTH}\r\n{{B}}")
    yield _perhaps("two Hosts", f"{HEAD}Host: evil\r\n{LENGTH}\r\n{{B}}")
    yield _perhaps("an Expect nobody knows", f"{HEAD}Expect: more\r\n{LENGTH}\r\n{{B}}")


def _request_lines() -> Iterator[Attack]:
    rest = f"Host: g\r\n{LENGTH}\r\n{{B}}"
    path = "/v1/chat/completions"
    for line in (
        f"POST {path} HTTP/1", f"POST {path} HTP/1.1", f"POST {path} http/1.1",
        f"POST {path} HTTP/11.1", f"POST {path} HTTP/1.1 x", f"POST {path} x HTTP/1.1", f"post {path} HTTP/1.1",
        f"POST{path} HTTP/1.1", f"P\x00ST {path} HTTP/1.1", f" POST {path} HTTP/1.1", f"POST {path}\x00 HTTP/1.1",
        f"POST\x0b{path} HTTP/1.1", "POST  HTTP/1.1", "POST", "", "POST v1/chat/completions HTTP/1.1",
        "CONNECT {V} HTTP/1.1", "PRI * HTTP/2.0", f"{'P' * 5000} {path} HTTP/1.1", f"BREW {path} HTTP/1.1",
        f"GET {path} HTTP/1.1", f"POST {path}/ HTTP/1.1", f"POST /..{path} HTTP/1.1",
    ):  # fmt: skip
        yield _never(f"request line {line[:40]!r}", f"{line}\r\n{rest}")
    for line in (
        f"POST http://{{V}}{path} HTTP/1.1", f"POST https://{{V}}{path} HTTP/1.1", f"POST //{{V}}{path} HTTP/1.1",
        f"POST {path}#x HTTP/1.1", f"POST {path}?x=y HTTP/1.1", f"POST /{path} HTTP/1.1", f"POST\t{path}\tHTTP/1.1",
        "POST /v1/chat%2fcompletions HTTP/1.1", f"\r\n\r\nPOST {path} HTTP/1.1", f"POST {path} HTTP/1.0",
        f"POST {path} HTTP/1.2", f"POST {path} HTTP/2.0", f"POST {path} HTTP/9.9", f"POST {path}\xe9 HTTP/1.1",
        f"POST {path}", f"POST {path} HTTP/0.9",
    ):  # fmt: skip
        yield _perhaps(f"request line {line[:40]!r}", f"{line}\r\n{rest}")
    yield _never("HTTP/0.9", "GET /health\r\n\r\n")
    yield _never("a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 200)
    yield _never("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")


def _bodies_nobody_asked_for() -> Iterator[Attack]:
    """A body of a request that has none by nature is still a body, and no second request."""
    for line in (
        "GET /health", "GET /v1/models", "GET /nowhere", "POST /nowhere", "DELETE /v1/chat/completions",
        "HEAD /health", "OPTIONS *", "OPTIONS /v1/chat/completions", "GET /v1/chat/completions", "GET /metrics",
    ):  # fmt: skip
        yield _never(f"{line} with a body", f"{line} HTTP/1.1\r\nHost: g\r\nContent-Length: {{SN}}\r\n\r\n{{S}}")
    upgrade = "GET /v1/models HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    yield _never("an upgrade", upgrade + "Content-Length: {SN}\r\n\r\n{S}")
    h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    yield _perhaps("an upgrade to HTTP/2", f"{HEAD}{h2c}{LENGTH}\r\n{{B}}")
    yield _perhaps("an upgrade and a body", f"{HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\n{LENGTH}\r\n{{B}}")


ATTACKS = (
    *_chunk_sizes(), *_trailers(), *_lengths(), *_both_framings(), *_codings(), *_heads(), *_request_lines(),
    *_bodies_nobody_asked_for(),
)  # fmt: skip
