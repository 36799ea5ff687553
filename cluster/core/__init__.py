"""Pure decisions: standard library only. No I/O, clock, environment or randomness that is not passed in."""
