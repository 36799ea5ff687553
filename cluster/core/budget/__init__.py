"""How many tokens a prompt will have, guessed from its text and from what engines counted before.

`features` looks at a bounded sample of the text, `weights` turns what it saw into tokens, `spread` knows how wrong that
has been, `learner` puts them together for one model. What must not live here: tokenizers, templates, JSON, pools, I/O,
clocks, randomness.
"""
