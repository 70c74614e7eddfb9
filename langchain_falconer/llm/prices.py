"""Prices of models by the table of the package ``genai-prices``."""

from __future__ import annotations

from functools import cache

_PRICE_PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "bedrock": "aws"}
"""Providers of the price table by LangChain's name, where the two differ."""


@cache
def list_price(name: str) -> tuple[float, float] | None:
    """Return USD per million input and output tokens by the table of ``genai-prices``; None for a missing model."""
    from genai_prices import Usage as TokenUsage
    from genai_prices import calc_price

    provider, _, model = name.partition(":")
    n = 1_000  # some models cost more per token in long prompts
    usages = TokenUsage(input_tokens=n, output_tokens=0), TokenUsage(input_tokens=0, output_tokens=n)
    provider = _PRICE_PROVIDERS.get(provider, provider)
    try:
        prices = [calc_price(usage, model_ref=model, provider_id=provider).total_price for usage in usages]
    except LookupError:
        return None
    return float(prices[0]) * 1e6 / n, float(prices[1]) * 1e6 / n
