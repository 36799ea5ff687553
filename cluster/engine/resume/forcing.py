"""How a request tells the logits processor what to force; apart from it, since it imports vLLM.

What must not live here: forcing.
"""

from __future__ import annotations

ARGUMENT = "longreach_forced_ids"
"""In vLLM's `SamplingParams.extra_args`. Clients cannot set it: `vllm_xargs` is taken out of their bodies."""
PROCESSOR = "cluster.engine.resume.forced:ForcedTokens"
"""For vLLM's `--logits-processors`."""
