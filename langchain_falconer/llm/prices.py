"""Prices of models: the dated table of the package ``genai-prices``, or the user's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

_PRICE_PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "mistralai": "mistral", "bedrock": "aws"}
"""Providers of the price table by LangChain's name, where the two differ."""
_TOKENS = 1_000
"""Tokens that a price is looked up for: some models cost more per token in long prompts."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model, in USD per million tokens.

    Attributes:
        input: Of input tokens.
        output: Of output tokens.
        source: Where the price comes from, with its date as far as that is known.
        cached_input: Of input tokens that the provider had cached; ``None`` where it is that of all input tokens.
        batch: Factor of the provider's batch interface.
    """

    input: float
    output: float
    source: str
    cached_input: float | None = None
    batch: float = 0.5

    def usd(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> float:
        """Return the price of a call in USD; ``cached_tokens`` are those of the input that the provider had cached."""
        cached = self.input if self.cached_input is None else self.cached_input
        total = (input_tokens - cached_tokens) * self.input + cached_tokens * cached + output_tokens * self.output
        return total / 1e6


@cache
def list_price(name: str) -> Price | None:
    """Return the price of a model by the table of ``genai-prices``; None for a model without one."""
    from genai_prices import Usage, calc_price

    provider, _, model = name.partition(":")
    provider = _PRICE_PROVIDERS.get(provider, provider)

    def per_million(context: dict[str, str] | None = None, **tokens: int) -> float:
        price = calc_price(Usage(**tokens), model_ref=model, provider_id=provider, price_context=context).total_price
        return float(price) * 1e6 / _TOKENS

    try:
        found = calc_price(Usage(input_tokens=_TOKENS), model_ref=model, provider_id=provider)
        input_usd, output_usd = per_million(input_tokens=_TOKENS), per_million(output_tokens=_TOKENS)
        cached = per_million(input_tokens=_TOKENS, cache_read_tokens=_TOKENS)
        batch = per_million({"processing": "batch"}, output_tokens=_TOKENS)
    except LookupError:
        return None
    comments = f"{found.provider.price_comments or ''} {found.model.price_comments or ''}"
    dates = re.findall(r"\b20\d\d-\d\d-\d\d\b", comments)
    source = f"genai-prices {version('genai-prices')}" + (f", checked {max(dates)}" if dates else "")
    factor = batch / output_usd if output_usd and batch < output_usd else 0.5
    return Price(input_usd, output_usd, source, cached, factor)
