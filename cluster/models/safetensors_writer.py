"""Writes bf16 safetensors a piece at a time, so that no model has to fit in memory.

What lives here: the file format (https://huggingface.co/docs/safetensors: header length, JSON header, data) and the
rounding from float32. What must not: knowing models. torch is not needed, which saves its import and its memory.
"""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Float32Array = npt.NDArray[np.float32]

BF16_BYTES = 2
HEADER_ALIGNMENT_BYTES = 8
"""Readers map the data behind the header: it has to start on a boundary that suits every dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor to write: `pieces` yields its float32 values in order, in arrays of any shape."""

    name: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[Float32Array]]

    @property
    def size_bytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * BF16_BYTES


def write_safetensors(path: Path, tensors: Sequence[Tensor], report: Callable[[int], None]) -> None:
    """Write the tensors to `path` in bf16; `report` gets the bytes written so far."""
    with path.open("wb") as file:
        file.write(_header(tensors))
        done_bytes = 0
        for tensor in tensors:
            before_bytes = done_bytes
            for piece in tensor.pieces():
                done_bytes += file.write(to_bf16(piece).tobytes())
                report(done_bytes)
            if done_bytes - before_bytes != tensor.size_bytes:
                raise ValueError(
                    f"{tensor.name}: {done_bytes - before_bytes} bytes given, {tensor.size_bytes} announced"
                )
        file.flush()
        os.fsync(file.fileno())


def to_bf16(values: Float32Array) -> npt.NDArray[np.uint16]:
    """Round finite float32 to bf16 (nearest, ties to even, as torch does), given as the 16-bit patterns."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded: npt.NDArray[np.uint16] = ((bits + rounding) >> np.uint32(16)).astype("<u2")
    return rounded


def _header(tensors: Sequence[Tensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset_bytes = 0
    for tensor in tensors:
        end_bytes = offset_bytes + tensor.size_bytes
        entries[tensor.name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [offset_bytes, end_bytes],
        }
        offset_bytes = end_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT_BYTES)
    return struct.pack("<Q", len(text)) + text
