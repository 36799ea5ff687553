"""The OpenAI-compatible REST surface: decode, encode, errors."""
