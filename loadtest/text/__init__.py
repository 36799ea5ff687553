"""Synthetic text with a known number of tokens.

What must not live here: what is asked with it (loadtest/scenarios).
"""

from loadtest.text.pieces import Count, Pieces, Style
from loadtest.text.wrapping import Wrapping
from loadtest.text.writer import Writer, load_writer, ratio_writer

__all__ = ["Count", "Pieces", "Style", "Wrapping", "Writer", "load_writer", "ratio_writer"]
