"""A KV block as a value in Redis: a fixed header, then the bytes. It is data and is never interpreted further.

The header carries a digest of the key, so that a value copied under another key is refused, and a checksum over header
and payload. Both find damage, not malice: who may write to Redis is its ACL's business. What must not live here:
sockets.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from enum import StrEnum

MAGIC = b"LRKV"
VERSION = 1
HEADER = struct.Struct("<4sBxxxQ16sI")
"""Magic, version, payload length, digest of the key, crc32 of the fields before it and the payload."""
HEADER_BYTES = HEADER.size
DIGEST_BYTES = 16
_CHECKED_BYTES = HEADER_BYTES - 4

Buffer = bytes | bytearray | memoryview


class Fault(StrEnum):
    """What is wrong with a value."""

    SIZE = "size"
    FORMAT = "format"
    KEY = "key"
    CHECKSUM = "checksum"


def key_digest(key: bytes) -> bytes:
    """What a header says of its key."""
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


def header(key: bytes, payload: Buffer) -> bytes:
    """The header for this payload under this key."""
    fields = HEADER.pack(MAGIC, VERSION, len(payload), key_digest(key), 0)[:_CHECKED_BYTES]
    return fields + struct.pack("<I", zlib.crc32(payload, zlib.crc32(fields)))


def header_fault(key: bytes, head: Buffer, payload_bytes: int) -> Fault | None:
    """What is wrong with a header, or None; the payload is not looked at."""
    if len(head) != HEADER_BYTES:
        return Fault.SIZE
    magic, version, length, digest, _ = HEADER.unpack(head)
    if magic != MAGIC or version != VERSION:
        return Fault.FORMAT
    if length != payload_bytes:
        return Fault.SIZE
    return None if digest == key_digest(key) else Fault.KEY


def payload_fault(head: Buffer, payload: Buffer) -> Fault | None:
    """Whether the payload is what the header's checksum was made of; None when it is."""
    expected = HEADER.unpack(head)[4]
    return None if zlib.crc32(payload, zlib.crc32(head[:_CHECKED_BYTES])) == expected else Fault.CHECKSUM
