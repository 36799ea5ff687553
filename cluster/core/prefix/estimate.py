"""From resident chunks to the prompt tokens an engine will find in its cache.

What must not live here: who holds which chunk.
"""

from __future__ import annotations


def predicted_tokens(*, chunks: int, tokens: int, block_tokens: int, prompt_tokens: int | None) -> int:
    """Prompt tokens the engine will reuse: whole blocks, never the whole prompt.

    The resident prefix ends somewhere in the chunk after the last resident one. The middle of that chunk is the best
    guess, and the mean of the chunks so far says how many tokens it has.

    Args:
        chunks: leading chunks of the prompt that are resident, k.
        tokens: those lying wholly in them, t; 0 where `chunks` is 0.
        block_tokens: tokens in a cache block of the engine, B.
        prompt_tokens: of the whole prompt, where that is known exactly.

    Returns:
        floor((t + t/k/2) / B) * B, at most floor((P - 1) / B) * B: an engine computes at least the last token.
    """
    if chunks == 0:
        return 0
    blocks = tokens * (2 * chunks + 1) // (2 * chunks * block_tokens)
    if prompt_tokens is not None:
        blocks = min(blocks, max(prompt_tokens - 1, 0) // block_tokens)
    return blocks * block_tokens
