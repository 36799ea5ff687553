"""A model hub on loopback: one repository, HTTP ranges, and faults on request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cluster.models.hub import HubSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Hub:
    """What the server serves, and what it was asked."""

    endpoint: str
    files: dict[str, bytes]
    commit: str = "c0ffee00" * 5
    cut_after_bytes: int | None = None
    """Ends the next weight download early, once."""
    refuses_with: int | None = None
    """The status of every answer."""
    refuses_files_with: int | None = None
    """The status of every file; the listing is answered."""
    changed: set[str] = field(default_factory=set)
    """Files served with one byte changed."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def settings(self, tmp_path: Path, token_file: Path | None = None) -> HubSettings:
        return HubSettings(endpoint=self.endpoint, token_file=token_file, cache_dir=tmp_path / "hub-cache")

    def fetched(self, name: str) -> list[str | None]:
        """The Range header of every request for a file."""
        return [asked for path, asked in self.requests if path.endswith(f"/{name}")]


def _answer(hub: Hub, handler: BaseHTTPRequestHandler) -> None:
    path = urlsplit(handler.path).path
    hub.requests.append((path, handler.headers.get("Range")))
    hub.tokens.add(handler.headers.get("Authorization"))
    if hub.refuses_with is not None:
        _send(handler, hub.refuses_with, b"")
    elif path.startswith("/api/models/org/model"):
        _send(handler, 200, json.dumps(_model_info(hub)).encode())
    elif hub.refuses_files_with is not None:
        _send(handler, hub.refuses_files_with, b"")
    elif path.startswith(f"/org/model/resolve/{hub.commit}/") and path.rpartition("/")[2] in hub.files:
        _send_file(hub, handler, path.rpartition("/")[2])
    else:
        handler.send_response(404)
        handler.send_header("X-Error-Code", "RepoNotFound")
        handler.send_header("Content-Length", "0")
        handler.end_headers()


def _model_info(hub: Hub) -> dict[str, object]:
    siblings = []
    for name, content in hub.files.items():
        git_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        sibling: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_id}
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        siblings.append(sibling)
    return {"_id": "1", "id": "org/model", "modelId": "org/model", "sha": hub.commit, "siblings": siblings}


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, content_range: str | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    if content_range:
        handler.send_header("Content-Range", content_range)
    handler.end_headers()
    handler.wfile.write(body)


def _send_file(hub: Hub, handler: BaseHTTPRequestHandler, name: str) -> None:
    content = hub.files[name]
    if name in hub.changed:
        content = bytes([content[0] ^ 1]) + content[1:]
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
    if hub.cut_after_bytes is not None and name.endswith(".safetensors"):
        cut, hub.cut_after_bytes = hub.cut_after_bytes, None
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:cut])
        handler.close_connection = True
        return
    content_range = f"bytes {start}-{len(content) - 1}/{len(content)}" if asked else None
    _send(handler, 206 if asked else 200, content[start:], content_range)


@contextlib.contextmanager
def serve_hub(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve `files` as the repository org/model."""
    holder: list[Hub] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(holder[0], self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    holder.append(Hub(endpoint=f"http://127.0.0.1:{server.server_port}", files=files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield holder[0]
    finally:
        server.shutdown()
        server.server_close()
