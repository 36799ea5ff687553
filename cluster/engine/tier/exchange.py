"""One pipeline of blocks with Redis: what is sent, what is taken off the connection, what is done about damage.

What must not live here: threads, queues, breakers (transfers.py).
"""

from __future__ import annotations

import logging
import time

from cluster.engine.tier import value
from cluster.engine.tier.connection import Connection, ReplyError, encode, encode_set
from cluster.engine.tier.jobs import Batch, Counts

log = logging.getLogger("longreach.tier")


def load_batch(connection: Connection, batch: Batch, *, ttl_s: int, until_s: float, counts: Counts) -> None:
    """Fill the rows of a batch, refresh the life of what is there, delete what is not what its key promises.

    Raises:
        TierConnectionError: Redis is away or took too long.
    """
    job, ttl = batch.job, b"%d" % ttl_s
    commands = b"".join(encode(b"GETEX", job.keys[at], b"EX", ttl) for at in batch.span)
    connection.send([commands], until_s=until_s)
    bad = []
    for at in batch.span:
        key, row = job.keys[at], job.rows[at]
        size_bytes = connection.value_bytes(until_s=until_s)
        if size_bytes is None:
            counts.missing += 1
        elif isinstance(size_bytes, ReplyError):
            counts.refused += 1
            if size_bytes.is_wrong_type:
                bad.append(key)
        else:
            fault = receive_value(connection, size_bytes, key, row, until_s)
            if fault is None:
                job.good[at] = True
                counts.loaded += 1
            else:
                bad.append(key)
                name = f"bad_{fault.value}"
                setattr(counts, name, getattr(counts, name) + 1)
    if bad:
        log.warning("deleting %d values from Redis that are not what their keys promise", len(bad))
        connection.ask([encode(b"UNLINK", *bad)], until_s=until_s)


def store_batch(connection: Connection, batch: Batch, *, ttl_s: int, until_s: float, counts: Counts) -> None:
    """Store the rows of a batch that are not in Redis yet, and refresh the life of those that are.

    Raises:
        TierConnectionError: see above.
    """
    job, ttl = batch.job, b"%d" % ttl_s
    began_s = time.monotonic()
    there = connection.ask([encode(b"EXPIRE", job.keys[at], ttl) for at in batch.span], until_s=until_s)
    missing = []
    for at, reply in zip(batch.span, there, strict=True):
        if reply == 1:
            job.good[at] = True
            counts.refreshed += 1
        elif reply == 0:
            missing.append(at)
        else:
            counts.refused += 1
    for at in missing:
        head = value.header(job.keys[at], job.rows[at])
        connection.send(encode_set(job.keys[at], head, job.rows[at], ttl_s), until_s=until_s)
    for at in missing:
        reply = connection.reply(until_s=until_s)
        if not isinstance(reply, ReplyError):
            job.good[at] = True
            counts.stored += 1
            counts.written_bytes += len(job.rows[at])
        elif reply.is_full:
            counts.dropped_full += 1
        else:
            counts.refused += 1
    counts.write_s += time.monotonic() - began_s if missing else 0.0


def receive_value(
    connection: Connection, size_bytes: int, key: bytes, row: memoryview, until_s: float
) -> value.Fault | None:
    """Take one value off the connection: into `row` where its header fits, away where it does not.

    Raises:
        TierConnectionError: see above.
    """
    if size_bytes != value.HEADER_BYTES + len(row):
        connection.skip(size_bytes, until_s=until_s)
        connection.end_value(until_s=until_s)
        return value.Fault.SIZE
    head = bytearray(value.HEADER_BYTES)
    connection.read_into(memoryview(head), until_s=until_s)
    fault = value.header_fault(key, head, len(row))
    if fault is None:
        connection.read_into(row, until_s=until_s)
    else:
        connection.skip(len(row), until_s=until_s)
    connection.end_value(until_s=until_s)
    return fault or value.payload_fault(head, row)
