"""How long a new replica takes to its first token, with and without a warm parent: `longreach bench start`."""
