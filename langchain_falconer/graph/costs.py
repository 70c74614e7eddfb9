"""The cost model: what each strategy costs for a corpus, from measured paces where there are some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from langchain_falconer.corpus import Passages
from langchain_falconer.errors import CorpusError
from langchain_falconer.graph.context import NodeContext
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.llm import Price
from langchain_falconer.plan import Plan
from langchain_falconer.records import FrozenModel
from langchain_falconer.report import BreakEven, Strategy, StrategyName
from langchain_falconer.report import formatting as fmt

_PROMPT_TOKENS = 260  # of a call that asks one step, its texts aside
_ANSWER_TOKENS = 20
_LLM_SECONDS = 1.5
_TRAINING_SECONDS = 60.0  # on some hundred texts, whatever their number and that of the steps, on two cores
_LOADING_SECONDS = 5.0  # to load and export
_TEXTS_PER_SECOND = 150.0
_FIRST_ROWS = 2_000  # that sizes of texts are estimated from


@dataclass(frozen=True)
class CostModel:
    """Sizes and paces, measured where they can be and assumed otherwise.

    Attributes:
        texts: Passages of the corpus.
        chars: Mean characters of a passage.
        steps: Steps of the plan.
        annotations: Texts that training asks the LLM about.
        price: Price of the LLM's tokens; None if unknown.
        tokens_per_answer: Mean input and output tokens of the LLM's earlier answers; None if there are none.
        seconds_per_answer: Mean duration of the LLM's earlier answers; None if there are none.
        texts_per_call: Texts that share a call.
        texts_per_second: Throughput of the proxy.
    """

    texts: int
    chars: float
    steps: int
    annotations: int
    price: Price | None = None
    tokens_per_answer: tuple[float, float] | None = None
    seconds_per_answer: float | None = None
    texts_per_call: int = 4
    texts_per_second: float = _TEXTS_PER_SECOND

    def strategy(self, name: StrategyName, texts: int, reason: str = "", proxy: str | None = None) -> Strategy:
        """Return the cost of a strategy that has the LLM answer ``texts`` of the corpus."""
        texts = min(texts, self.texts)
        assumed = (self.chars / 4 + _PROMPT_TOKENS / self.texts_per_call, _ANSWER_TOKENS)
        tokens = [texts * self.steps * each for each in self.tokens_per_answer or assumed]
        usd = 0.0 if not texts else self.price.usd(*tokens) if self.price else None
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


def cost_model(context: NodeContext, plan: Plan, texts: int, chars: float, annotations: int) -> CostModel:
    """Return the cost model of a plan on a corpus, with the pace of this LLM's earlier answers.

    Args:
        context: Home, LLM and settings.
        plan: The questions.
        texts: Passages of the corpus.
        chars: Mean characters of a passage.
        annotations: Texts that training asks the LLM about.
    """
    llm, per_call = context.llm, context.settings.annotate.texts_per_call
    price = llm.price() if llm else None
    model = CostModel(texts, chars, len(plan.steps), annotations, price, texts_per_call=per_call)
    if llm is None:
        return model
    with context.store() as store:
        spent, seconds, answers = store.annotation_totals(llm.name)
    if not answers:
        return model
    tokens = (spent.input_tokens / answers, spent.output_tokens / answers)
    per_answer = seconds / answers / llm.settings.max_concurrency
    return replace(model, tokens_per_answer=tokens, seconds_per_answer=per_answer)


class AnnotationEstimate(FrozenModel):
    """What the annotation of a job is expected to cost at most, before it begins.

    A step with a ``where`` counts as if it held everywhere; a step about spans as if each text had one. Texts that are
    answered a second time, to see whether the LLM agrees with itself, are among them; those of a pilot are not.

    Attributes:
        texts: Texts that the LLM is asked about.
        calls: LLM calls.
        tokens: Their tokens.
        usd: Their price; ``None`` where it is unknown.
        minutes: Duration; ``None`` for a batch, which takes up to a day.
        prices: Source and date of the price; ``None`` where it is unknown.
    """

    texts: int
    calls: int
    tokens: int
    usd: float | None
    minutes: float | None
    prices: str | None

    def __str__(self) -> str:
        """Return the estimate in words."""
        duration = "up to 24 hours" if self.minutes is None else fmt.duration(60 * self.minutes)
        usd = fmt.usd(self.usd) + (f" ({self.prices})" if self.prices else "")
        return (
            f"to annotate {fmt.count(self.texts)} texts: about {fmt.count(self.calls)} LLM calls, "
            f"{fmt.count(self.tokens)} tokens, {usd}, {duration}"
        )


def estimate_annotation(context: NodeContext, state: FalconerState, plan: Plan) -> AnnotationEstimate | None:
    """Estimate what the LLM's first annotation round costs, from the first rows of a corpus.

    None for a corpus that cannot be read: that is left to the stage that reads it, which says why.
    """
    settings, targets = context.settings, context.targets(state)
    passages = Passages(islice(context.corpus(state), _FIRST_ROWS), settings.passage_chars)
    try:
        first = sum(1 for _ in passages)
    except CorpusError:
        return None
    wanted = settings.annotations + (targets.annotations if targets else 0)
    texts = min(wanted, first) if passages.documents < _FIRST_ROWS else wanted
    repeated = round(min(texts, settings.annotations) * settings.annotate.repeated)
    costs = cost_model(context, plan, texts + repeated, passages.chars / max(1, first), texts)
    llm, price, is_batch = costs.strategy("llm", texts + repeated), costs.price, settings.annotate.batch
    return AnnotationEstimate(
        texts=texts,
        calls=len(plan.steps) * (-(-texts // settings.annotate.texts_per_call) + repeated),
        tokens=llm.tokens,
        usd=round(price.batch * llm.usd, 4) if price and is_batch and llm.usd is not None else llm.usd,
        minutes=None if is_batch else round(llm.seconds / 60, 2),
        prices=price.source if price else None,
    )
