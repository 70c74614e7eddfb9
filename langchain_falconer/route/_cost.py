"""What each way to an answer costs, and which is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

WayName = Literal["registry", "near", "zero-shot", "llm", "train"]
_PROMPT_TOKENS = 260  # of a call that asks one step, its texts aside
_ANSWER_TOKENS = 20
_LLM_SECONDS = 1.5
_TRAINING_SECONDS = 60.0  # on some hundred texts, whatever their number and that of the steps, on two cores
_FIRST_SECONDS = 5.0  # to load and export
_TEXTS_PER_SECOND = 150.0


class Trust(BaseModel):
    """When a proxy that was not trained on a question is believed.

    Attributes:
        verify: texts that the LLM answers first, for the proxy to be compared with.
        agreement: the least that the lower end of the 95% interval of that agreement must reach, and the agreement of
            each step.
        cosine: how near in meaning (in [-1, 1]) a question must be to one that a proxy was trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verify: int = Field(default=30, ge=5)
    agreement: float = Field(default=0.7, gt=0, lt=1)
    cosine: float = Field(default=0.6, ge=-1, le=1)


@dataclass(frozen=True)
class Way:
    """One way to the answer: what it costs from here, and why it was taken or not.

    ``texts`` are those that the LLM is still asked about, ``usd`` is None where the LLM has no known price.
    """

    name: WayName
    texts: int
    tokens: int
    usd: float | None
    seconds: float
    reason: str = ""
    proxy: str | None = None

    def because(self, reason: str) -> Way:
        """The way, with a reason."""
        return replace(self, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items() if v is not None}


@dataclass(frozen=True)
class Costs:
    """The cost model: sizes, and paces that were measured where they could be and are assumed otherwise.

    Attributes:
        texts: passages of the corpus.
        chars: mean characters of a passage.
        steps: steps of the plan.
        annotations: texts that training asks the LLM about.
        price: USD per million input and output tokens.
        tokens_an_answer: tokens (in, out) that an answer of this LLM took on average, if it gave any.
        seconds_an_answer: seconds that it took.
        texts_per_call: texts that share a call.
        texts_per_second: pace of the proxy.
    """

    texts: int
    chars: float
    steps: int
    annotations: int
    price: tuple[float, float] | None = None
    tokens_an_answer: tuple[float, float] | None = None
    seconds_an_answer: float | None = None
    texts_per_call: int = 4
    texts_per_second: float = _TEXTS_PER_SECOND

    def way(self, name: WayName, texts: int, reason: str = "", proxy: str | None = None) -> Way:
        """What it costs to have the LLM answer ``texts`` of the corpus and to go this way with the rest."""
        asked = min(texts, self.texts)
        tokens = [asked * self.steps * each for each in self._tokens]
        usd = sum(n * each for n, each in zip(tokens, self.price, strict=True)) / 1e6 if self.price else None
        seconds = asked * self.steps * self._seconds
        if name != "llm":
            seconds += _FIRST_SECONDS + self.texts / self.texts_per_second
        if name == "train":
            seconds += _TRAINING_SECONDS
        return Way(name, asked, round(sum(tokens)), usd, seconds, reason, proxy)

    @property
    def break_even(self) -> dict[str, Any]:
        """From how many texts on training costs less than asking the LLM about each, in tokens and in seconds."""
        a_text = self.steps * self._seconds
        training = self.annotations * a_text + _TRAINING_SECONDS + _FIRST_SECONDS
        saved = a_text - 1 / self.texts_per_second
        return {
            "texts_by_tokens": self.annotations + 1,
            "texts_by_seconds": round(training / saved) if saved > 0 else None,
        }

    @property
    def _tokens(self) -> tuple[float, float]:
        return self.tokens_an_answer or (self.chars / 4 + _PROMPT_TOKENS / self.texts_per_call, _ANSWER_TOKENS)

    @property
    def _seconds(self) -> float:
        return self.seconds_an_answer or _LLM_SECONDS


@dataclass(frozen=True)
class Decision:
    """The way that is taken, the others with their reasons, and where training breaks even with asking about each."""

    taken: Way
    others: Sequence[Way]
    break_even: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        others = [way.to_dict() for way in self.others]
        return {"way": self.taken.name, **self.taken.to_dict(), "others": others, "break_even": self.break_even}
