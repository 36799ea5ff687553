"""What replicas hold of a prompt: chains of hashes over its text, and the index of who has which of them.

A prompt's rendered bytes are cut into chunks and hashed into a **chain** (chain.py). A replica publishes the keys of
the chunks its engine has cached, each with its token position (messages.py), and in its lease what gateways must know
to make the same keys (facts.py). A gateway keeps one **table** a replica (table.py) in one **index** (index.py) and
turns the longest resident prefix into tokens (estimate.py). What Redis keeps is remembered beside it (kept.py). What
must not live here: Redis, engines, tokenizers, templates.
"""

from cluster.core.prefix.chain import ROOT_BYTES, PrefixChain, chain_root, chunk_bytes_for, key_of, next_digest
from cluster.core.prefix.estimate import predicted_tokens
from cluster.core.prefix.facts import PrefixFacts
from cluster.core.prefix.index import PrefixIndex
from cluster.core.prefix.kept import KeptPrefixes
from cluster.core.prefix.messages import (
    SNAPSHOT_ENTRIES_MAX,
    UPDATE_ENTRIES_MAX,
    ResidencyUpdate,
    decode_snapshot,
    decode_update,
    encode_snapshot,
    encode_update,
)
from cluster.core.prefix.table import ResidencyTable

__all__ = [
    "ROOT_BYTES",
    "SNAPSHOT_ENTRIES_MAX",
    "UPDATE_ENTRIES_MAX",
    "KeptPrefixes",
    "PrefixChain",
    "PrefixFacts",
    "PrefixIndex",
    "ResidencyTable",
    "ResidencyUpdate",
    "chain_root",
    "chunk_bytes_for",
    "decode_snapshot",
    "decode_update",
    "encode_snapshot",
    "encode_update",
    "key_of",
    "next_digest",
    "predicted_tokens",
]
