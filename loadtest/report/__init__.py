"""What a load test comes to: sums over its records, thresholds, comparisons, a table, a page.

What must not live here: sending and timing (loadtest/client), files of runs (loadtest/run_file.py).
"""

from loadtest.report.level import Level, is_good, parse_level
from loadtest.report.summary import Summary, as_json, summary
from loadtest.report.thresholds import Missed, Threshold, missed, parse_threshold

__all__ = [
    "Level",
    "Missed",
    "Summary",
    "Threshold",
    "as_json",
    "is_good",
    "missed",
    "parse_level",
    "parse_threshold",
    "summary",
]
