"""A TLS listener before a Valkey server, which comes without TLS here.

What must not live here: tests.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def tls_front(port: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve the server on `port` at an address with TLS; that, and the certificate that vouches for it."""
    cert, private = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", private, "-out", cert, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, private)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=terminate_tls, args=(listener, context, port), daemon=True).start()
        yield f"rediss://localhost:{listener.getsockname()[1]}", cert


def terminate_tls(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """What a TLS listener of Redis does, for one connection after the other; this Valkey is built without TLS."""
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        try:
            client = context.wrap_socket(raw, server_side=True)
        except OSError:
            continue
        backend = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=pump, args=(backend, client), daemon=True).start()
        threading.Thread(target=pump, args=(client, backend), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
