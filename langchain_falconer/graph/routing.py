"""The router: the cheapest strategy for a question that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_falconer.annotate import HUMAN, Annotation, source_of, stored_annotations
from langchain_falconer.corpus import CorpusStats, Dataset, Document
from langchain_falconer.errors import LLMError, ProxyError, RunError
from langchain_falconer.evaluate import Quality, evaluate_plan, min_texts_to_certify
from langchain_falconer.execute import BACKEND_TEXTS, choose_backend
from langchain_falconer.files import digest, file_digest
from langchain_falconer.graph.context import NodeContext
from langchain_falconer.graph.costs import CostModel, cost_model
from langchain_falconer.graph.nodes.annotate import ask_llm
from langchain_falconer.graph.state import AskOptions, FalconerState
from langchain_falconer.llm import LLM
from langchain_falconer.model import Embedder, Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers
from langchain_falconer.registry import Entry, ModelMatch, exact_matches, similar_matches
from langchain_falconer.report import Decision, Strategy, StrategyName

_EXACT = "trained on these very questions"
_HUMAN = "trains on a person's annotations, and runs the proxy"
_UNTRAINED = "answers from the words of the questions alone"
_UNVERIFIED = f"{_UNTRAINED}, which no LLM verified"
UNTRAINED = (
    "there is no LLM and no trained proxy: these are guesses of the untrained model, from the words of the question "
    "alone, and nothing was measured; name an LLM, or train a proxy, for answers that are"
)
_LEVEL = 0.95
_VERIFY_SEED = 1_000_003
"""Added to the seed of a job, for a sample of its own."""
_ONE_SIDED = 0.975  # confidence of the lower end of a 95% interval


@dataclass(frozen=True)
class Route:
    """The strategy that was chosen, and what it answers with.

    Attributes:
        strategy: The strategy.
        proxy: The proxy that answers; None where one has yet to be trained.
        quality: Its measured agreement.
        annotator: Whose answers the quality is measured by.
        answers: The LLM's answers, where it answers every text.
        unanswered: Rows that the LLM was to answer and did not.
        answered_share: Share of the rows that the LLM answered, where it answers every text.
    """

    strategy: Strategy
    proxy: Proxy | None = None
    quality: Quality | None = None
    annotator: str | None = None
    answers: tuple[Annotation, ...] = ()
    unanswered: int = 0
    answered_share: float = 0.0


@dataclass
class Router:
    """Chooses a strategy for a plan on a dataset.

    In the order of their cost: a proxy that was trained on these very questions; one that was trained on similar ones,
    or the untrained base, where it agrees with the LLM on a few texts; the LLM, where there are so few texts that
    training would ask about as many; training.

    Where a quality is requested, no proxy is accepted that was not measured to reach it, not even one trained on these
    very questions; and what is trained is certified, and helped by the LLM where it is not confident.

    Attributes:
        context: Home, LLM and settings.
        plan: The questions.
        dataset: The texts.
        options: Options of the question.
        is_human: Whether a person's annotations stand in for the LLM's.
        others: Strategies that were rejected, with reasons; filled by :meth:`choose`.
        messages: Advice; filled by :meth:`choose`.
    """

    context: NodeContext
    plan: Plan
    dataset: Dataset
    options: AskOptions
    is_human: bool = False
    others: list[Strategy] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    # ---- estimates, before anything is asked

    def decide(self) -> Decision:
        """Return the strategy to try first, and what every one costs; nothing is asked and nothing computed.

        Raises ``RunError`` if no strategy is possible.
        """
        strategies = self._possible()
        if not strategies:
            raise _no_strategy(self._entries)
        return self._decided(strategies[0], strategies[1:])

    def decision(self, strategy: Strategy) -> Decision:
        """Return the decision for a strategy that was chosen."""
        return self._decided(strategy, self.others)

    def _decided(self, chosen: Strategy, others: Sequence[Strategy]) -> Decision:
        prices = self.costs.price.source if self.costs.price else None
        return Decision(chosen=chosen, others=tuple(others), break_even=self.costs.break_even, prices=prices)

    @cached_property
    def stats(self) -> CorpusStats:
        """Sizes of the corpus, and a uniform sample of its texts: those to verify on, then those to time backends on.

        It has a seed of its own: what a proxy is verified on is no part of the sample that training measures on.
        """
        settings = self.context.settings
        size = self.n_verify + max(BACKEND_TEXTS, min(settings.annotations, 500) + 1)
        return CorpusStats.of(self.dataset, settings.passage_chars, settings.seed + _VERIFY_SEED, size)

    @cached_property
    def costs(self) -> CostModel:
        """The cost model, with the pace of this LLM's earlier answers."""
        return cost_model(self.context, self.plan, self.stats.passages, self.stats.chars, self.n_training)

    @property
    def min_agreement(self) -> float:
        """The agreement that a proxy must be measured to reach."""
        return self.options.trust.agreement if self.options.quality is None else self.options.quality

    @property
    def n_verify(self) -> int:
        """Texts that a proxy is compared with the LLM on: for a quality, twice what would prove it without an error."""
        quality = self.options.quality
        required = 2 * min_texts_to_certify(quality, _ONE_SIDED) if quality else 0
        return max(self.options.trust.verify, required)

    @property
    def n_training(self) -> int:
        """Texts that the LLM answers where a proxy is trained: to learn from, and for a quality to certify it."""
        settings, quality = self.context.settings, self.options.quality
        if quality is None:
            return settings.annotations
        return settings.annotations + (settings.targets.annotations if settings.targets else 300)

    def _possible(self) -> list[Strategy]:
        matches = exact_matches(self._entries, self.plan)
        accepted = self._accepted(matches)
        strategies = [self.costs.strategy("registry", 0, _EXACT, accepted[0].entry.name)] if accepted else []
        if self.is_human:
            return [*strategies, self.costs.strategy("train", 0, _HUMAN)]
        if self.context.llm is None:
            is_guess = not strategies and self.options.quality is None
            return [self.costs.strategy("zero-shot", 0, _UNVERIFIED)] if is_guess else strategies
        if self.stats.passages > self.n_verify:
            strategies += [strategy for strategy, _ in self._to_verify([] if accepted else matches)]
        if self._is_small:
            reason = "so few texts that training would ask about as many"
            strategies.append(self.costs.strategy("llm", self.stats.passages, reason))
        return [*strategies, self.costs.strategy("train", self.n_training, "annotates, trains and runs a proxy")]

    @cached_property
    def _entries(self) -> list[Entry]:
        return self.context.home.registry.entries()

    @property
    def _is_small(self) -> bool:
        return self.stats.passages <= self.n_training and self.stats.is_short

    def _accepted(self, matches: Sequence[ModelMatch]) -> tuple[ModelMatch, Quality | None] | None:
        """The best proxy that was trained on the plan, with its quality; where one is required, it was measured.

        What counts is agreement with this LLM, or a person. Of several proxies the best is taken, so that they share
        one error budget: each interval is widened to its part of the level.
        """
        required, llm = self.options.quality, self.context.llm
        if required is None:
            return (matches[0], matches[0].quality) if matches else None
        annotators = (llm.name if llm else None, HUMAN)
        measured = [(match, match.quality) for match in matches if match.quality and match.annotator in annotators]
        level = 1 - (1 - _LEVEL) / max(1, len(measured))
        for match, quality in measured:
            widened = quality.model_copy(update={"agreement": quality.agreement.at_level(level)})
            if reaches(widened, required):
                return match, widened
        return None

    def _to_verify(self, matches: Sequence[ModelMatch]) -> list[tuple[Strategy, ModelMatch | None]]:
        """The proxies that are worth verifying: one that matches exactly, similar ones, and the untrained base."""
        exact = {match.entry.name for match in matches}
        cosine = self.options.trust.cosine
        similar = similar_matches(self._entries, self.plan, Embedder(self.context.settings.base), cosine)
        proxies: list[tuple[StrategyName, str, ModelMatch]] = [("registry", _EXACT, match) for match in matches[:1]]
        proxies += [
            ("similar", f"trained on similar questions (cosine {match.cosine:.2f})", match)
            for match in similar
            if match.entry.name not in exact
        ]
        return [
            *((self.costs.strategy(name, self.n_verify, why, match.entry.name), match) for name, why, match in proxies),
            (self.costs.strategy("zero-shot", self.n_verify, _UNTRAINED), None),
        ]

    # ---- the choice

    def choose(self, state: FalconerState) -> Route:
        """Choose a strategy; the LLM may be asked about a few texts, or about all where there are few."""
        matches = exact_matches(self._entries, self.plan)
        if accepted := self._accepted(matches):
            return self._registry_route(*accepted)
        if self.is_human:
            return Route(self.costs.strategy("train", 0, _HUMAN))
        if self.context.llm is None:
            return self._registry_route(matches[0], matches[0].quality) if matches else self._untrained_route()
        if self.stats.passages > self.n_verify and (best := self._verified(matches, state, self.context.llm)):
            return best
        if self._is_small:
            return self._llm_route(state, self.context.llm)
        reason = "no proxy is similar enough, and the texts are too many to ask the LLM about each"
        return Route(self.costs.strategy("train", self.n_training, reason))

    def _registry_route(self, match: ModelMatch, quality: Quality | None) -> Route:
        strategy = self.costs.strategy("registry", 0, _EXACT, match.entry.name)
        if self.options.quality is None and quality and not reaches(quality, self.min_agreement):
            self.messages.append(
                f"the proxy was measured at {in_words(quality)}; request a quality, and it is verified, and another "
                "one trained if it falls short"
            )
        return Route(strategy, self._load(match), quality, match.annotator)

    def _untrained_route(self) -> Route:
        """The untrained base, unverified. Raises ``RunError`` if it answers nothing, or a quality is requested."""
        if self.options.quality is not None:
            raise _no_strategy(self._entries)
        try:
            proxy = self._untrained()
        except ProxyError as error:
            raise _no_strategy(self._entries) from error
        self.messages.append(UNTRAINED)
        return Route(self.costs.strategy("zero-shot", 0, _UNVERIFIED), proxy)

    def _llm_route(self, state: FalconerState, llm: LLM) -> Route:
        rows = [row.text for row in self.dataset.open() if isinstance(row, Document)]
        answers = self._ask(list(dict.fromkeys(rows)), state, llm, all_or_error=True)
        complete = {a.text for a in answers if a.is_complete}
        unanswered = sum(text not in complete for text in rows)
        if unanswered:
            self.messages.append(
                f"the LLM answered {len(rows) - unanswered} of {len(rows)} texts, the rest is the untrained model's "
                "guess; the same question again asks about it again"
            )
        reason = f"{self.stats.passages} texts, and training would ask about {self.n_training}"
        strategy = self.costs.strategy("llm", self.stats.passages, reason)
        share = 1 - unanswered / max(1, len(rows))
        return Route(strategy, self._untrained(), None, llm.name, tuple(answers), unanswered, share)

    def _verified(self, matches: Sequence[ModelMatch], state: FalconerState, llm: LLM) -> Route | None:
        """The proxy that agrees best with the LLM on a few texts, if it agrees well enough."""
        answers = [a for a in self._ask(self.stats.sample[: self.n_verify], state, llm) if a.is_complete]
        if len(answers) < self.n_verify // 2:
            self.messages.append(
                f"the LLM answered only {len(answers)} of {self.n_verify} texts to verify on, so that nothing but a "
                "proxy that was trained on the question is trusted"
            )
            return None
        candidates = []
        for strategy, match in self._to_verify(matches):
            try:
                candidates.append((strategy, match, self._load(match) if match else self._untrained()))
            except ProxyError:
                if match:  # a base may answer nothing untrained
                    raise
        level = 1 - (1 - _LEVEL) / max(1, len(candidates))  # one error budget for all of them: the best one is taken
        trusted = []
        for strategy, match, proxy in candidates:
            reason, quality = self._verify(strategy.reason, match, proxy, answers, level)
            if quality is None:
                self.others.append(strategy.because(reason))
            else:
                trusted.append((quality.agreement.value, Route(strategy.because(reason), proxy, quality, llm.name)))
        _, best = max(trusted, key=lambda route: route[0], default=(0.0, None))
        self.others += [route.strategy for _, route in trusted if route is not best]
        return best

    def _verify(
        self, reason: str, match: ModelMatch | None, proxy: Proxy, answers: list[Annotation], level: float
    ) -> tuple[str, Quality | None]:
        """Return why a proxy is trusted by answers of the LLM, and its quality; or why it is not, and None."""
        if match:
            answers = [a for a in answers if not match.entry.trained_on([a.text])]
            if len(answers) < self.n_verify // 2:
                return f"{reason}; it was trained on the texts that it would be verified on", None
        for step in self.plan.steps:
            if len({_answer_key(a.answers, step.id) for a in answers if step.id in a.answers}) < 2:
                same = f"the LLM gave step '{step.id}' one and the same answer on {len(answers)} texts"
                return f"{same}, which proves nothing", None
        predicted = proxy.answers([a.text for a in answers], apply_conditions=False)
        quality = evaluate_plan(self.plan, [a.answers for a in answers], predicted, level=level)
        reason = f"{reason}; {in_words(quality)}"
        if not reaches(quality, self.min_agreement):
            return f"{reason}, too little to trust: {self.min_agreement:.0%} is required", None
        return reason, quality

    def _ask(self, texts: list[str], state: FalconerState, llm: LLM, *, all_or_error: bool = False) -> list[Annotation]:
        """The LLM's answers, earlier ones among them.

        Raises:
            LLMError: The LLM answered nothing; with ``all_or_error``, it stopped before the last text.
            BudgetError: The budget ended before that.
        """
        with self.context.store() as store:
            report = ask_llm(store, self.plan, texts, state, self.context, show=True)
            answers = stored_annotations(
                store, self.plan, texts, source_of(llm.name, self.context.settings.annotate.prompts)
            )
        if report.error is not None and (all_or_error or not answers):
            raise report.error
        if not answers:
            raise LLMError(f"{llm.name} gave no usable answer to any of {len(texts)} texts; try another model")
        if report.error:
            self.messages.append(f"the LLM stopped before the last text ({report.error})")
        return answers

    def _untrained(self) -> Proxy:
        settings = self.context.settings
        return Proxy.zero_shot(self.plan, base=settings.base, passage_chars=settings.passage_chars)

    def _load(self, match: ModelMatch) -> Proxy:
        proxy = Proxy.load(match.entry.path)
        run = self.context.settings.run
        texts = self.stats.sample[self.n_verify :] or self.stats.sample  # those to verify on choose nothing else
        choose_backend(proxy, texts[:BACKEND_TEXTS], run.backend, device=run.device)
        return proxy.with_plan(self.plan, match.steps)


def result_id(context: NodeContext, state: FalconerState, plan: Plan, dataset: Dataset) -> str:
    """Return the id of an answer: everything that it depends on."""
    options = AskOptions.model_validate(state["ask"] or {})
    excluded: Any = {"annotate": {"batch"}, "budget": True, "run": True, "corpus": True, "train": {"device"}}
    return digest(
        plan.fingerprint,
        dataset.fingerprint,
        context.llm.name if context.llm else None,
        file_digest(state.get("annotations")),
        options.model_dump(mode="json", exclude={"refresh"}),
        context.settings.model_dump(mode="json", exclude=excluded),
    )


def reaches(quality: Quality, agreement: float) -> bool:
    """Return whether the lower end of the interval reaches an agreement, and no step is measured below it."""
    steps = (step.agreement.value for step in quality.steps.values())
    return quality.agreement.low >= agreement and min(steps) >= agreement


def in_words(quality: Quality) -> str:
    """Return the agreement with its interval in words."""
    measured = quality.agreement
    return (
        f"{measured.value:.0%} agreement on {measured.n} texts "
        f"({measured.level:.4g} interval {measured.low:.0%} to {measured.high:.0%})"
    )


def _no_strategy(entries: Sequence[Entry]) -> RunError:
    questions = dict.fromkeys(f"'{step.instruction[:80]}'" for entry in entries for step in entry.steps)
    return RunError(
        "no trained proxy answers this question and there is no LLM to ask; name an LLM, or ask what a proxy of this "
        f"home was trained on: {', '.join(list(questions)[:5]) or 'nothing yet'}"
    )


def _answer_key(answers: Answers, step: str) -> str:
    """An answer in words, to tell whether answers differ."""
    return str(answers.labels[step].value) if step in answers.labels else str([s.text for s in answers.spans[step]])
