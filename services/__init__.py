"""Everything a client talks to."""
