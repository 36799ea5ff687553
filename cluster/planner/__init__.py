"""What to buy and how to divide it: cards, models, service levels. What must not live here: the sums (cluster/core)."""
