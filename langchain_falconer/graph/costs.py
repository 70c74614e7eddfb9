"""The cost model: what each strategy costs for a corpus, from measured paces where there are some."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_falconer.report import BreakEven, Strategy, StrategyName

_PROMPT_TOKENS = 260  # of a call that asks one step, its texts aside
_ANSWER_TOKENS = 20
_LLM_SECONDS = 1.5
_TRAINING_SECONDS = 60.0  # on some hundred texts, whatever their number and that of the steps, on two cores
_LOADING_SECONDS = 5.0  # to load and export
_TEXTS_PER_SECOND = 150.0


@dataclass(frozen=True)
class CostModel:
    """Sizes and paces, measured where they can be and assumed otherwise.

    Attributes:
        texts: Passages of the corpus.
        chars: Mean characters of a passage.
        steps: Steps of the plan.
        annotations: Texts that training asks the LLM about.
        price: USD per million input and output tokens; None if unknown.
        tokens_per_answer: Mean input and output tokens of the LLM's earlier answers; None if there are none.
        seconds_per_answer: Mean duration of the LLM's earlier answers; None if there are none.
        texts_per_call: Texts that share a call.
        texts_per_second: Throughput of the proxy.
    """

    texts: int
    chars: float
    steps: int
    annotations: int
    price: tuple[float, float] | None = None
    tokens_per_answer: tuple[float, float] | None = None
    seconds_per_answer: float | None = None
    texts_per_call: int = 4
    texts_per_second: float = _TEXTS_PER_SECOND

    def strategy(self, name: StrategyName, texts: int, reason: str = "", proxy: str | None = None) -> Strategy:
        """Return the cost of a strategy that has the LLM answer ``texts`` of the corpus."""
        texts = min(texts, self.texts)
        assumed = (self.chars / 4 + _PROMPT_TOKENS / self.texts_per_call, _ANSWER_TOKENS)
        tokens = [texts * self.steps * each for each in self.tokens_per_answer or assumed]
        usd = sum(n * each for n, each in zip(tokens, self.price, strict=True)) / 1e6 if self.price else None
        if texts == 0:
            usd = 0.0  # whatever the price
        seconds = texts * self._llm_seconds
        if name != "llm":
            seconds += _LOADING_SECONDS + self.texts / self.texts_per_second
        if name == "train":
            seconds += _TRAINING_SECONDS
        return Strategy(
            name=name,
            texts=texts,
            tokens=round(sum(tokens)),
            usd=None if usd is None else round(usd, 4),
            seconds=round(seconds, 4),
            reason=reason,
            proxy=proxy,
        )

    @property
    def _llm_seconds(self) -> float:
        return self.steps * (self.seconds_per_answer or _LLM_SECONDS)

    @property
    def break_even(self) -> BreakEven:
        """The corpus size from which training costs less than asking the LLM about every text."""
        training = self.annotations * self._llm_seconds + _TRAINING_SECONDS + _LOADING_SECONDS
        saved = self._llm_seconds - 1 / self.texts_per_second
        by_seconds = round(training / saved) if saved > 0 else None
        return BreakEven(texts_by_tokens=self.annotations + 1, texts_by_seconds=by_seconds)
