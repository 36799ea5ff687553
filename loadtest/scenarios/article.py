"""article-chat, -summary, -write: the three rows of the Qwen3-4B article.

What must not live here: other sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.scenarios.chat import TOKENS_MAX, EvenChat
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import Arrivals, Scenario

PROMPT = "Prompt, template included, in tokens."
ANSWER = "Answer, in tokens."


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticleChat(EvenChat):
    """50 → 100."""

    prompt_tokens: int = option(50, PROMPT, low=1, high=TOKENS_MAX)
    output_tokens: int = option(100, ANSWER, low=1, high=TOKENS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticleSummary(EvenChat):
    """8k → 300."""

    prompt_tokens: int = option(8_192, PROMPT, low=1, high=TOKENS_MAX)
    output_tokens: int = option(300, ANSWER, low=1, high=TOKENS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticleWrite(EvenChat):
    """120 → 200."""

    prompt_tokens: int = option(120, PROMPT, low=1, high=TOKENS_MAX)
    output_tokens: int = option(200, ANSWER, low=1, high=TOKENS_MAX)


ARTICLE_CHAT = Scenario(
    name="article-chat",
    sentence="First row of the Qwen3-4B article: 50 tokens in, 100 out.",
    kind=ArticleChat,
    arrivals=Arrivals(rate_per_s=4.0),
)
ARTICLE_SUMMARY = Scenario(
    name="article-summary",
    sentence="Second row of the Qwen3-4B article: 8,192 tokens in, 300 out.",
    kind=ArticleSummary,
    arrivals=Arrivals(rate_per_s=0.5),
)
ARTICLE_WRITE = Scenario(
    name="article-write",
    sentence="Third row of the Qwen3-4B article: 120 tokens in, 200 out.",
    kind=ArticleWrite,
    arrivals=Arrivals(rate_per_s=4.0),
)
