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
from langchain_falconer.evaluate import Quality, evaluate_plan, fewest_to_certify
from langchain_falconer.execute import choose_backend
from langchain_falconer.graph import HUMAN, Home, MineSettings, digest
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan
from langchain_falconer.proxy import Embedder, Entry, Proxy
from langchain_falconer.records import Answers
from langchain_falconer.route._cost import Costs, Decision, Trust, Way, WayName
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

    Where a quality is asked for, no proxy is believed that was not measured to reach it, one that was trained on these
    very questions neither; and what is trained is certified, and helped by the LLM where it is not sure.
    """

    home: Home
    llm: LLM | None
    settings: MineSettings
    trust: Trust
    train: Train
    annotated: bool = False
    """Whether a person's annotations stand in for the LLM's."""
    quality: float | None = None
    """The agreement with the LLM that the answer is to reach, with the lower end of its 95% interval."""

    @property
    def results(self) -> Results:
        """What was answered before."""
        return Results(self.home.folder / "results")

    def decide(self, plan: Plan, source: Source) -> Decision:
        """What would be tried first, and what every way costs; nothing is asked and nothing computed."""
        survey = self._survey(source)
        costs = self._costs(plan, survey)
        covers = covered(self.home.registry.entries(), plan)
        held = self.held(covers)
        ways = [costs.way("registry", 0, _COVERS, held.entry.name)] if held else []
        if self.annotated:
            ways.append(costs.way("train", 0, "trains on a person's annotations, and runs the proxy"))
        elif self.llm is not None:
            unproven = [] if held else covers
            ways += self._guesses(plan, costs, unproven) if survey.passages > self.verify else []
            if self._few(survey):
                ways.append(costs.way("llm", survey.passages, "so few texts that training would ask about as many"))
            ways.append(costs.way("train", self.taught, "annotates, trains and runs a proxy"))
        if not ways:
            raise _nobody(self.home.registry.entries())
        return Decision(ways[0], ways[1:], costs.break_even)

    def __call__(self, plan: Plan, source: Source, emit: Emit) -> dict[str, Any]:
        """The summary of the answer, as :class:`Results` keeps it.

        Raises:
            FalconerError: with one sentence that names the fix.
        """
        result = digest(plan.fingerprint, source.fingerprint, self.llm.name if self.llm else None, self.quality)
        with self.results.alone(result):
            known = self.results.find(result)
            if known is not None:
                return {**known, "cost": _FREE, "seconds": {}, "answered_before": True}
            with span("falconer.route") as traced:
                summary = _Job(self, plan, source, result, emit)()
                traced |= _traced(summary)
            return summary

    # ---- shared with the job

    @property
    def least(self) -> float:
        """The agreement that a proxy must be seen to reach."""
        return self.trust.agreement if self.quality is None else self.quality

    @property
    def verify(self) -> int:
        """Texts that a proxy is compared with the LLM on: for a quality, twice what would prove it without an error."""
        return max(self.trust.verify, 2 * fewest_to_certify(self.quality, _ONE_SIDED) if self.quality else 0)

    @property
    def taught(self) -> int:
        """Texts that the LLM answers where a proxy is trained: to learn from, and for a quality to certify it."""
        return self.settings.annotations + (self.settings.targets.annotations if self.quality else 0)

    def held(self, covers: Sequence[Cover]) -> Cover | None:
        """The best of the proxies that were trained on the plan; for a quality, of those measured to reach it.

        What counts is agreement with this LLM, or a person.
        """
        judges = (self.llm.name if self.llm else None, HUMAN)
        return next(
            (
                cover
                for cover in covers
                if self.quality is None
                or (cover.quality and cover.annotator in judges and _reaches(cover.quality, self.quality))
            ),
            None,
        )

    def _survey(self, source: Source) -> Survey:
        most = max(self.verify, min(self.settings.annotations, 500) + 1)
        return Survey(source, self.settings.passage_chars, self.settings.seed, most)

    def _few(self, survey: Survey) -> bool:
        return survey.passages <= self.taught and survey.is_short

    def _guesses(self, plan: Plan, costs: Costs, covers: Sequence[Cover]) -> list[Way]:
        """The ways by a proxy that is to be verified first."""
        guessed = [
            costs.way(name, self.verify, reason, cover.entry.name) for name, reason, cover in self.near(plan, covers)
        ]
        return [*guessed, costs.way("zero-shot", self.verify, _UNTRAINED)]

    def near(self, plan: Plan, covers: Sequence[Cover]) -> list[tuple[WayName, str, Cover]]:
        """The trained proxies that are worth verifying: how each is called, why, and what it answers."""
        exact = {cover.entry.name for cover in covers}
        found = near(self.home.registry.entries(), plan, Embedder(self.settings.base), self.trust.cosine)
        alike = [(f"trained on near questions (cosine {c.cosine:.2f})", c) for c in found if c.entry.name not in exact]
        return [("registry", _COVERS, c) for c in covers[:1]] + [("near", reason, c) for reason, c in alike]

    def _costs(self, plan: Plan, survey: Survey) -> Costs:
        facts = Costs(
            survey.passages,
            survey.chars,
            len(plan.steps),
            self.taught,
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
_COVERS = "trained on these very questions"
_UNTRAINED = "answers from the words of the questions alone"
_ONE_SIDED = 0.975  # what the lower end of a 95% interval holds at


def _reaches(quality: Quality, least: float) -> bool:
    """Whether the agreement was measured to be that good, and no step of the plan seems worse."""
    steps = (step.agreement.value for step in quality.steps.values())
    return quality.agreement.interval.low >= least and min(steps) >= least


def _measured(quality: Quality) -> str:
    agreement = quality.agreement
    low, high = agreement.interval.low, agreement.interval.high
    return f"{agreement.value:.0%} agreement on {agreement.n} texts (95% interval {low:.0%} to {high:.0%})"


def _nobody(entries: Sequence[Entry]) -> RunError:
    known = [f"'{step.instruction[:80]}'" for entry in entries for step in entry.steps]
    return RunError(
        "no trained proxy answers this question and there is no LLM to ask; give an LLM, or ask what a proxy of this "
        f"home was trained on: {', '.join(dict.fromkeys(known[:5])) or 'nothing yet'}"
    )


@dataclass
class _Candidate:
    """A proxy that is not believed unseen, and how well it agrees with the LLM."""

    way: Way
    proxy: Proxy
    cover: Cover | None = None
    quality: Quality | None = None


class _Job:
    """One answer in the making."""

    def __init__(self, route: Route, plan: Plan, source: Source, result: str, emit: Emit) -> None:
        self.route, self.plan, self.source, self.result, self.emit = route, plan, source, result, emit
        self.began = time.monotonic()
        self.survey = route._survey(source)
        self.others: list[Way] = []
        self.notes: list[str] = []
        self.told = 0.0  # the share of the texts that the LLM answered, where it was asked about all

    def __call__(self) -> dict[str, Any]:
        entries = self.route.home.registry.entries()
        self.emit({"stage": "route", "event": "begin"})
        self.costs = self.route._costs(self.plan, self.survey)
        covers = covered(entries, self.plan)
        if held := self.route.held(covers):
            return self._by_registry(held)
        if self.route.annotated:
            return self._by_training()
        if self.route.llm is None:
            if covers:
                return self._by_registry(covers[0])
            raise _nobody(entries)
        if self.survey.passages > self.route.verify and (best := self._trusted(covers)):
            return self._by_proxy(best.way, best.proxy, best.quality, self.route.llm.name)
        if self.route._few(self.survey):
            return self._by_llm()
        return self._by_training()

    # ---- the ways

    def _by_registry(self, cover: Cover) -> dict[str, Any]:
        way = self.costs.way("registry", 0, _COVERS, cover.entry.name)
        if self.route.quality is None and cover.quality and not _reaches(cover.quality, self.route.least):
            self.notes.append(
                f"the proxy was measured at {_measured(cover.quality)}; ask for a quality, and it is verified, and "
                "another one trained if it falls short"
            )
        return self._by_proxy(way, self._served(cover), cover.quality, cover.annotator)

    def _by_proxy(self, way: Way, proxy: Proxy, quality: Quality | None, judge: str | None) -> dict[str, Any]:
        rows = self._rows(proxy.fingerprint)
        computed = rows.compute(self.source, partial(rows.run, proxy, self.route.settings.run), self._ran)
        facts = {"backend": {"name": proxy.session.name}, "annotations": {"source": judge, "train": 0}}
        return self._done(way, rows, quality, computed, facts)

    def _by_llm(self) -> dict[str, Any]:
        reason = f"{self.survey.passages} texts, and training would ask about {self.route.taught}"
        texts = [row.text for row in self.source.open() if hasattr(row, "text")]
        known = self._asked(list(dict.fromkeys(texts)), whole=True)
        self.told = len(known) / max(1, len(set(texts)))
        proxy = Proxy.zero_shot(self.plan, base=self.route.settings.base)
        rows = self._rows(f"llm {self._llm.name}")
        run = partial(rows.run, proxy, self.route.settings.run, known=known)
        return self._done(
            self.costs.way("llm", self.survey.passages, reason), rows, None, rows.compute(self.source, run)
        )

    def _by_training(self) -> dict[str, Any]:
        reason = "no proxy is near enough, and the texts are too many to ask the LLM about each"
        way = self.costs.way("train", self.route.taught, reason)
        output = self.route.results.folder / f".{self.result}.jsonl"
        try:
            summary = self.route.train(self.plan, self.source, output, self._left())
            cover = covered([self.route.home.registry.entry(Path(summary["proxy"]).name)], self.plan)[0]
            rows = self._rows(self._served(cover).fingerprint)
            rows.take(self.source, output)
        finally:
            output.unlink(missing_ok=True)
        quality = Quality.from_dict(summary["quality"]) if summary["quality"] else None
        return self._done(replace(way, proxy=Path(summary["proxy"]).name), rows, quality, 0, summary)

    # ---- trust

    def _trusted(self, covers: Sequence[Cover]) -> _Candidate | None:
        """The proxy that agrees best with the LLM on a few texts, if it agrees well enough."""
        asked = self.survey.sample[: self.route.verify]
        known = [a for a in self._asked(asked) if not a.failures]
        if len(known) < self.route.verify // 2:
            self.notes.append(f"only {len(known)} texts could be verified, so that no untrained proxy is trusted")
            return None
        trusted = []
        for candidate in self._candidates(covers):
            doubt = self._doubt(candidate, known)
            if doubt:
                self.others.append(candidate.way.because(doubt))
            else:
                trusted.append(candidate)
        best = max(trusted, key=lambda c: c.quality.agreement.value if c.quality else 0.0, default=None)
        self.others += [c.way for c in trusted if c is not best]
        return best

    def _candidates(self, covers: Sequence[Cover]) -> list[_Candidate]:
        settings, found = self.route.settings, []
        for name, reason, cover in self.route.near(self.plan, covers):
            way = self.costs.way(name, self.route.verify, reason, cover.entry.name)
            found.append(_Candidate(way, self._served(cover), cover))
        try:
            untrained = Proxy.zero_shot(self.plan, base=settings.base, passage_chars=settings.passage_chars)
        except ProxyError:
            return found
        way = self.costs.way("zero-shot", self.route.verify, _UNTRAINED)
        return [*found, _Candidate(way, untrained)]

    def _doubt(self, candidate: _Candidate, known: Sequence[Annotation]) -> str | None:
        """Why a proxy is not to be trusted by these answers of the LLM; None if it is."""
        if candidate.cover:
            known = [a for a in known if not candidate.cover.entry.saw([a.text])]
            if len(known) < self.route.verify // 2:
                return f"{candidate.way.reason}; it learnt from the texts that it would be verified on"
        for step in self.plan.steps:
            if len({_said(a.answers, step.id) for a in known if step.id in a.answers}) < 2:
                return (
                    f"the LLM gave step '{step.id}' one and the same answer on {len(known)} texts, which proves nothing"
                )
        predicted = candidate.proxy.answers([a.text for a in known], everything=True)
        candidate.quality = evaluate_plan(self.plan, [a.answers for a in known], predicted)
        candidate.way = candidate.way.because(f"{candidate.way.reason}; {_measured(candidate.quality)}")
        if not _reaches(candidate.quality, self.route.least):
            return f"{candidate.way.reason}, too little to trust: {self.route.least:.0%} is asked for"
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
        self, way: Way, rows: PartRows, quality: Quality | None, computed: int, facts: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Joins the rows of all parts, and keeps the summary beside them."""
        output = self.route.results.rows(self.result)
        tally = rows.join(self.source, output)
        decision = Decision(way, self.others, self.costs.break_even)
        made = {
            **self._facts(quality, way),
            **(facts or {}),
            "instruction": self.plan.instruction,
            "plan": self.plan.to_dict(),
            "rows": tally.summary(),
            "output": str(output),
            "result": self.result,
            "corpus_name": self.source.name,
            "decision": decision.to_dict(),
            "target": self._target(way, quality, (facts or {}).get("guarantee")),
            "computed": computed,
            "findings": findings(self.plan, output),
        }
        made["messages"] = [*made["messages"], *self.notes]
        made["cost"] = self._cost(made["cost"])
        self.route.results.keep(self.result, made)
        self.emit({"stage": "route", "event": "end", "way": way.name})
        return made

    def _target(self, way: Way, quality: Quality | None, guarantee: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Whether the answer reaches the quality that was asked for, and by what it is known; None if none was."""
        if (asked := self.route.quality) is None:
            return None
        if way.name == "llm":
            met, reason = self.told >= asked, f"the LLM itself answered {self.told:.0%} of the texts"
        elif guarantee:
            met, reason = guarantee["certified"] and not guarantee["uncertain"], " ".join(guarantee["said"])
        elif quality:
            met, reason = _reaches(quality, asked), _measured(quality)
        else:
            met, reason = False, "the agreement of this proxy was never measured"
        if not met and self.route.llm is None:
            reason += "; give an LLM that verifies, and answers what no proxy is sure of"
        return {"quality": asked, "met": met, "reason": reason}

    def _facts(self, quality: Quality | None, way: Way) -> dict[str, Any]:
        entry = self.route.home.registry.path(way.proxy) if way.proxy else None
        return {
            "run_id": self.result,
            "corpus": {"sources": [self.source.name], "documents": self.survey.documents},
            "annotations": {"source": self.route.llm.name if self.route.llm else None, "train": 0},
            "quality": quality.to_dict() if quality else None,
            "cost": _FREE,
            "pace": {"texts_per_second": None},
            "training": {},
            "backend": {},
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
