"""Whether pools keep long prompts from holding up short requests: the same load with pools and without them."""
