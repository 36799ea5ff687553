"""The command line: parses, calls, prints. The program is `longreach`.

What must not live here: anything worth calling from elsewhere. Every command imports what it needs when it runs, so
that `longreach --help` and shell completion stay quick.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the program."""
    from cluster.cli.app import app

    app()
