"""Requests to simulate: read from files, made up from fitted distributions, stretched, with a tail of long prompts.

What must not live here: what becomes of them.
"""

from cluster.simulator.traces.burst import Bursts
from cluster.simulator.traces.day import Day, day_of, over_a_day
from cluster.simulator.traces.fit import PROBABILITIES, Sharing, TraceFit, fit_trace
from cluster.simulator.traces.generate import generate
from cluster.simulator.traces.library import DEFAULT_FIT, builtin_fits
from cluster.simulator.traces.overlay import overlaid
from cluster.simulator.traces.reader import read_trace
from cluster.simulator.traces.shape import Tail, faster, first, rate_per_s, with_tail

__all__ = [
    "DEFAULT_FIT",
    "PROBABILITIES",
    "Bursts",
    "Day",
    "Sharing",
    "Tail",
    "TraceFit",
    "builtin_fits",
    "day_of",
    "faster",
    "first",
    "fit_trace",
    "generate",
    "over_a_day",
    "overlaid",
    "rate_per_s",
    "read_trace",
    "with_tail",
]
