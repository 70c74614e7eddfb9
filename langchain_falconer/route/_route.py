"""From a plan and a source to rows, the cheapest way that can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from langchain_falconer._trace import span
from langchain_falconer.annotate import Annotation, AnnotationReport, Annotator, Budget, BudgetSettings, recall
from langchain_falconer.errors import BudgetError, LLMError, ProxyError, RunError
from langchain_falconer.evaluate import Quality, evaluate_plan
from langchain_falconer.execute import choose_backend
from langchain_falconer.graph import Home, MineSettings, digest
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan
from langchain_falconer.proxy import Embedder, Entry, Proxy
from langchain_falconer.records import Answers
from langchain_falconer.route._cost import Costs, Decision, Trust, Way
from langchain_falconer.route._findings import findings
from langchain_falconer.route._match import Cover, covered, near
from langchain_falconer.route._results import Results
from langchain_falconer.route._rows import PartRows
from langchain_falconer.route._source import Source, Survey

Emit = Callable[[dict[str, Any]], None]


class Train(Protocol):
    """Annotates, trains and runs, within what is left of the budget; rows (JSON lines) to ``output``."""

    def __call__(self, plan: Plan, source: Source, output: Path, budget: BudgetSettings) -> dict[str, Any]:
        """The summary of the run."""
        ...


@dataclass(frozen=True)
class Route:
    """Answers plans about sources on one home.

    What was answered before about the same documents is taken as it is. Else, in the order of what it costs: a proxy
    that was trained on these very questions; one that was trained on near ones, or none at all, where it agrees with
    the LLM on a few texts; the LLM, where there are so few texts that training would ask about as many; training.
    """

    home: Home
    llm: LLM | None
    settings: MineSettings
    trust: Trust
    train: Train
    annotated: bool = False
    """Whether a person's annotations stand in for the LLM's."""

    @property
    def results(self) -> Results:
        """What was answered before."""
        return Results(self.home.folder / "results")

    def decide(self, plan: Plan, source: Source) -> Decision:
        """What would be tried first, and what every way costs; nothing is asked and nothing computed."""
        survey = self._survey(source)
        costs = self._costs(plan, survey)
        covers = covered(self.home.registry.entries(), plan)
        ways = [costs.way("registry", 0, "trained on these very questions", covers[0].entry.name)] if covers else []
        if self.annotated:
            ways.append(costs.way("train", 0, "trains on a person's annotations, and runs the proxy"))
        elif self.llm is not None:
            ways += self._guesses(plan, costs) if survey.passages > self.trust.verify else []
            if self._few(survey):
                ways.append(costs.way("llm", survey.passages, "so few texts that training would ask about as many"))
            ways.append(costs.way("train", self.settings.annotations, "annotates, trains and runs a proxy"))
        if not ways:
            raise _nobody(self.home.registry.entries())
        return Decision(ways[0], ways[1:], costs.break_even)

    def __call__(self, plan: Plan, source: Source, emit: Emit) -> dict[str, Any]:
        """The summary of the answer, as :class:`Results` keeps it.

        Raises:
            FalconerError: with one sentence that names the fix.
        """
        result = result_id(plan, source)
        with self.results.alone(result):
            known = self.results.find(result)
            if known is not None:
                return {**known, "cost": _FREE, "seconds": {}, "answered_before": True}
            with span("falconer.route") as traced:
                summary = _Job(self, plan, source, result, emit)()
                traced |= _traced(summary)
            return summary

    # ---- shared with the job

    def _survey(self, source: Source) -> Survey:
        most = max(self.trust.verify, min(self.settings.annotations, 500) + 1)
        return Survey(source, self.settings.passage_chars, self.settings.seed, most)

    def _few(self, survey: Survey) -> bool:
        return survey.passages <= self.settings.annotations and survey.is_short

    def _guesses(self, plan: Plan, costs: Costs) -> list[Way]:
        asked = self.trust.verify
        found = near(self.home.registry.entries(), plan, Embedder(self.settings.base), self.trust.cosine)
        ways = [
            costs.way("near", asked, f"trained on near questions (cosine {c.cosine:.2f})", c.entry.name) for c in found
        ]
        return [*ways, costs.way("zero-shot", asked, "answers from the words of the questions alone")]

    def _costs(self, plan: Plan, survey: Survey) -> Costs:
        facts = Costs(
            survey.passages,
            survey.chars,
            len(plan.steps),
            self.settings.annotations,
            self.llm.price() if self.llm else None,
            texts_per_call=self.settings.annotate.texts_per_call,
        )
        if self.llm is None:
            return facts
        with self.home.store() as store:
            spent, seconds, answers = store.pace(self.llm.name)
        if not answers:
            return facts
        tokens = (spent.input_tokens / answers, spent.output_tokens / answers)
        return replace(
            facts, tokens_an_answer=tokens, seconds_an_answer=seconds / answers / self.llm.settings.max_concurrency
        )


def _traced(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a trace holds of an answer: counts and names."""
    cost, rows, proxy = summary["cost"], summary["rows"], summary["proxy"]
    return {
        "way": summary["decision"]["way"],
        "result": summary["result"],
        "texts": rows["total"],
        "matched": rows["matched"],
        "computed": summary["computed"],
        "tokens": cost["input_tokens"] + cost["output_tokens"],
        "proxy": Path(proxy).name if proxy else None,
    }


_FREE = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0.0}


def result_id(plan: Plan, source: Source) -> str:
    """What an answer is known by: the plan and the documents (16 hex digits)."""
    return digest(plan.fingerprint, source.fingerprint)


def _nobody(entries: Sequence[Entry]) -> RunError:
    known = [f"'{step.instruction[:80]}'" for entry in entries for step in entry.steps]
    return RunError(
        "no trained proxy answers this question and there is no LLM to ask; give an LLM, or ask what a proxy of this "
        f"home was trained on: {', '.join(dict.fromkeys(known[:5])) or 'nothing yet'}"
    )


@dataclass
class _Candidate:
    """A proxy that was not trained on the plan, and how well it agrees with the LLM."""

    way: Way
    proxy: Proxy
    quality: Quality | None = None


class _Job:
    """One answer in the making."""

    def __init__(self, route: Route, plan: Plan, source: Source, result: str, emit: Emit) -> None:
        self.route, self.plan, self.source, self.result, self.emit = route, plan, source, result, emit
        self.began = time.monotonic()
        self.survey = route._survey(source)
        self.others: list[Way] = []
        self.notes: list[str] = []

    def __call__(self) -> dict[str, Any]:
        entries = self.route.home.registry.entries()
        self.emit({"stage": "route", "event": "begin"})
        self.costs = self.route._costs(self.plan, self.survey)
        if covers := covered(entries, self.plan):
            return self._by_registry(covers[0])
        if self.route.annotated:
            return self._by_training()
        if self.route.llm is None:
            raise _nobody(entries)
        if self.survey.passages > self.route.trust.verify and (best := self._trusted(entries)):
            return self._by_proxy(best.way, best.proxy, best.quality)
        if self.route._few(self.survey):
            return self._by_llm()
        return self._by_training()

    # ---- the ways

    def _by_registry(self, cover: Cover) -> dict[str, Any]:
        way = self.costs.way("registry", 0, "trained on these very questions", cover.entry.name)
        return self._by_proxy(way, self._served(cover), cover.quality)

    def _by_proxy(self, way: Way, proxy: Proxy, quality: Quality | None) -> dict[str, Any]:
        rows = self._rows(proxy.fingerprint)
        computed = rows.compute(self.source, partial(rows.run, proxy, self.route.settings.run), self._ran)
        return self._done(way, rows, quality, computed, proxy.session.name)

    def _by_llm(self) -> dict[str, Any]:
        reason = f"{self.survey.passages} texts, and training would ask about {self.route.settings.annotations}"
        texts = [row.text for row in self.source.open() if hasattr(row, "text")]
        known = self._asked(list(dict.fromkeys(texts)), whole=True)
        proxy = Proxy.zero_shot(self.plan, base=self.route.settings.base)
        rows = self._rows(f"llm {self._llm.name}")
        run = partial(rows.run, proxy, self.route.settings.run, known=known)
        return self._done(
            self.costs.way("llm", self.survey.passages, reason), rows, None, rows.compute(self.source, run)
        )

    def _by_training(self) -> dict[str, Any]:
        reason = "no proxy is near enough, and the texts are too many to ask the LLM about each"
        way = self.costs.way("train", self.route.settings.annotations, reason)
        output = self.route.results.folder / f".{self.result}.jsonl"
        try:
            summary = self.route.train(self.plan, self.source, output, self._left())
            cover = covered([self.route.home.registry.entry(Path(summary["proxy"]).name)], self.plan)[0]
            rows = self._rows(self._served(cover).fingerprint)
            rows.take(self.source, output)
        finally:
            output.unlink(missing_ok=True)
        done = self._done(replace(way, proxy=Path(summary["proxy"]).name), rows, None, 0, summary=summary)
        return done

    # ---- trust

    def _trusted(self, entries: Sequence[Entry]) -> _Candidate | None:
        """The proxy that agrees best with the LLM on a few texts, if it agrees well enough."""
        asked = self.survey.sample[: self.route.trust.verify]
        known = [a for a in self._asked(asked) if not a.failures]
        if len(known) < self.route.trust.verify // 2:
            self.notes.append(f"only {len(known)} texts could be verified, so that no untrained proxy is trusted")
            return None
        trusted = []
        for candidate in self._candidates(entries):
            doubt = self._doubt(candidate, known)
            if doubt:
                self.others.append(candidate.way.because(doubt))
            else:
                trusted.append(candidate)
        best = max(trusted, key=lambda c: c.quality.agreement.value if c.quality else 0.0, default=None)
        self.others += [c.way for c in trusted if c is not best]
        return best

    def _candidates(self, entries: Sequence[Entry]) -> list[_Candidate]:
        trust, settings = self.route.trust, self.route.settings
        found = []
        for cover in near(entries, self.plan, Embedder(settings.base), trust.cosine):
            reason = f"trained on near questions (cosine {cover.cosine:.2f})"
            way = self.costs.way("near", trust.verify, reason, cover.entry.name)
            found.append(_Candidate(way, self._served(cover)))
        try:
            untrained = Proxy.zero_shot(self.plan, base=settings.base, passage_chars=settings.passage_chars)
        except ProxyError:
            return found
        way = self.costs.way("zero-shot", trust.verify, "answers from the words of the questions alone")
        return [*found, _Candidate(way, untrained)]

    def _doubt(self, candidate: _Candidate, known: Sequence[Annotation]) -> str | None:
        """Why a proxy is not to be trusted by these answers of the LLM; None if it is."""
        least = self.route.trust.agreement
        for step in self.plan.steps:
            if len({_said(a.answers, step.id) for a in known if step.id in a.answers}) < 2:
                return (
                    f"the LLM gave step '{step.id}' one and the same answer on {len(known)} texts, which proves nothing"
                )
        predicted = candidate.proxy.answers([a.text for a in known], everything=True)
        quality = evaluate_plan(self.plan, [a.answers for a in known], predicted)
        candidate.quality = quality
        shown = f"{quality.agreement.value:.0%} agreement on {len(known)} texts"
        candidate.way = candidate.way.because(f"{candidate.way.reason}; {shown}")
        worst = min(quality.steps.values(), key=lambda s: s.agreement.value)
        if quality.agreement.interval.low < least or worst.agreement.value < least:
            return (
                f"{candidate.way.reason} (95% interval from {quality.agreement.interval.low:.0%}), too little to trust"
            )
        return None

    # ---- the LLM

    @property
    def _llm(self) -> LLM:
        assert self.route.llm is not None
        return self.route.llm

    def _asked(self, texts: list[str], *, whole: bool = False) -> list[Annotation]:
        """The LLM's answers, those that it gave before among them; ``whole`` is content with nothing less than all."""
        with self.route.home.store() as store:
            budget = Budget(store, self.result, self.route.settings.budget, self._llm.price() is not None)
            annotator = Annotator(self._llm, store, self.plan, budget, self.route.settings.annotate)
            report: AnnotationReport = annotator.annotate(
                texts, lambda done, total: self.emit({"stage": "annotate", "done": done, "total": total})
            )
            known = recall(store, self.plan, texts, self._llm.name)
        if report.stopped and (whole or not known):
            raise (BudgetError if "max_" in report.stopped else LLMError)(report.stopped)
        if missing := len(set(texts)) - len(known):
            self.notes.append(
                f"{missing} texts have no answer of the LLM ({report.stopped or 'it gave no usable one'})"
            )
        return known

    def _left(self) -> BudgetSettings:
        """What is left of the budget for training."""
        caps = self.route.settings.budget
        with self.route.home.store() as store:
            spent = store.spent(self.result)
        tokens = spent.input_tokens + spent.output_tokens
        return caps.model_copy(
            update={
                "max_calls": _less(caps.max_calls, spent.calls),
                "max_tokens": _less(caps.max_tokens, tokens),
                "max_usd": _less(caps.max_usd, spent.usd or 0.0),
            }
        )

    # ---- rows and summary

    def _served(self, cover: Cover) -> Proxy:
        proxy = Proxy.load(cover.entry.path)
        choose_backend(proxy, self.survey.sample[:256], self.route.settings.run.backend)
        return proxy.serve(self.plan, cover.steps)

    def _rows(self, decided_by: str) -> PartRows:
        return PartRows(self.route.home.folder / "answers", self.plan, decided_by)

    def _ran(self, done: int) -> None:
        self.emit({"stage": "execute", "done": done, "total": self.survey.documents})

    def _done(
        self,
        way: Way,
        rows: PartRows,
        quality: Quality | None,
        computed: int,
        backend: str | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Joins the rows of all parts, and keeps the summary beside them."""
        output = self.route.results.rows(self.result)
        tally = rows.join(self.source, output)
        decision = Decision(way, self.others, self.costs.break_even)
        made = {
            **(summary or self._facts(quality, way, backend)),
            "instruction": self.plan.instruction,
            "plan": self.plan.to_dict(),
            "rows": tally.summary(),
            "output": str(output),
            "result": self.result,
            "corpus_name": self.source.name,
            "decision": decision.to_dict(),
            "computed": computed,
            "findings": findings(self.plan, output),
        }
        made["messages"] = [*made["messages"], *self.notes]
        made["cost"] = self._cost(made["cost"])
        self.route.results.keep(self.result, made)
        self.emit({"stage": "route", "event": "end", "way": way.name})
        return made

    def _facts(self, quality: Quality | None, way: Way, backend: str | None) -> dict[str, Any]:
        entry = self.route.home.registry.path(way.proxy) if way.proxy else None
        return {
            "run_id": self.result,
            "corpus": {"sources": [self.source.name], "documents": self.survey.documents},
            "annotations": {"source": self.route.llm.name if self.route.llm else None, "train": 0},
            "quality": quality.to_dict() if quality else None,
            "cost": _FREE,
            "pace": {"texts_per_second": None},
            "training": {},
            "backend": {"name": backend} if backend else {},
            "seconds": {"all": round(time.monotonic() - self.began, 2)},
            "proxy": str(entry) if entry else None,
            "messages": [],
        }

    def _cost(self, cost: Mapping[str, Any]) -> dict[str, Any]:
        """What training took, and what was asked before it was chosen."""
        with self.route.home.store() as store:
            spent = store.spent(self.result)
        total = {key: cost[key] + getattr(spent, key) for key in ("calls", "input_tokens", "output_tokens")}
        priced = [usd for usd in (cost["usd"], spent.usd if spent.calls else None) if usd is not None]
        every = cost.get("tokens_for_every_text") or self.costs.way("llm", self.survey.passages).tokens
        return {**total, "usd": sum(priced) if priced else None, "tokens_for_every_text": every}


def _less(cap: Any, spent: Any) -> Any:
    return None if cap is None else max(0, cap - spent)


def _said(answers: Answers, step: str) -> str:
    """An answer in words, to tell whether answers differ."""
    return str(answers.labels[step].value) if step in answers.labels else str([s.text for s in answers.spans[step]])
