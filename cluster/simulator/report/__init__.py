"""What a run comes to: numbers, a table, a page with plots.

What must not live here: the run.
"""

from cluster.simulator.report.metrics import BANDS, BandFigures, Figures, figures_of
from cluster.simulator.report.prefill import ideal_prefill_tokens

__all__ = ["BANDS", "BandFigures", "Figures", "figures_of", "ideal_prefill_tokens"]
