"""Which format a trace file has, and its lines one by one.

What must not live here: any format (mooncake.py, azure.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType

from cluster.core.errors import SetupError, TraceError
from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces.azure import HEAD, azure_requests
from cluster.simulator.traces.mooncake import BLOCK_TOKENS, mooncake_requests

Lines = Iterator[tuple[int, str]]
Format = Callable[[Lines, str], Iterator[TraceRequest]]

LINE_CHARACTERS_MAX = 1_000_000
"""Far over what a prompt of a million tokens takes in hash ids: whatever is longer is no trace."""
REQUESTS_MAX = 5_000_000
"""Held in memory at about 300 bytes each: 1.5 GB."""
FORMATS: Mapping[str, Format] = MappingProxyType({"{": mooncake_requests, HEAD[0]: azure_requests})
"""By what the file begins with."""


def read_trace(path: Path) -> Trace:
    """The requests of a file in Mooncake's or in Azure's format, by arrival; the first comes at 0 s.

    Raises:
        SetupError: the file cannot be read.
        TraceError: it has a mistake, or a format nobody knows.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            beginning = file.read(len(HEAD[0]))
            file.seek(0)
            parse = next((parse for prefix, parse in FORMATS.items() if beginning.startswith(prefix)), None)
            if parse is None:
                raise TraceError(
                    path.name,
                    line=1,
                    field="",
                    problem="begins like no trace that is known",
                    remedy=f"JSON Lines with timestamp, input_length, output_length; or CSV that begins {HEAD[0]}",
                )
            requests = list(parse(_numbered(file, path.name), path.name))
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", "name a file you can read") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not a text file in UTF-8", "unpack or convert it first") from error
    if not requests:
        raise TraceError(path.name, line=1, field="", problem="has no requests", remedy="name a file with some")
    requests.sort(key=attrgetter("arrival_s"))
    begin_s = requests[0].arrival_s
    return Trace(
        name=path.stem,
        block_tokens=BLOCK_TOKENS,
        requests=tuple(request._replace(arrival_s=request.arrival_s - begin_s) for request in requests),
    )


def _numbered(lines: Iterator[str], origin: str) -> Lines:
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_CHARACTERS_MAX:
            raise TraceError(
                origin, line=number, field="", problem=f"over {LINE_CHARACTERS_MAX:,} characters", remedy="not a trace?"
            )
        if number > REQUESTS_MAX:
            raise TraceError(
                origin, line=number, field="", problem=f"over {REQUESTS_MAX:,} requests", remedy="split the file"
            )
        if line.strip():
            yield number, line
