"""The stages of the state machine. Each can be run again at any time: what is done is found in the home, not redone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from langchain_falconer.annotate import (
    Annotation,
    AnnotationReport,
    AnnotationStore,
    Annotator,
    Budget,
    has_answers,
    read_annotations,
    recall,
    store_annotations,
)
from langchain_falconer.corpus import Corpus, Place, open_corpus_files, place
from langchain_falconer.errors import (
    AnnotationError,
    BudgetError,
    CorpusError,
    LLMError,
    PlanError,
    ProxyError,
    RunError,
    SettingsError,
)
from langchain_falconer.evaluate import Metric, Quality, evaluate_plan
from langchain_falconer.execute import Cascade, Run, RunReport, check_output, choose_backend, read_rows
from langchain_falconer.graph._home import Home, digest, file_digest, read_json, write_json
from langchain_falconer.graph._planning import planned
from langchain_falconer.graph._sample import (
    Passages,
    Sample,
    draw_rows,
    next_round,
    sample_for_llm,
    sample_of_given,
    sample_of_known,
)
from langchain_falconer.graph._scarce import scarce
from langchain_falconer.graph._settings import MineSettings
from langchain_falconer.graph._state import FalconerInput, FalconerState, Review
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan, to_mermaid, to_pseudocode
from langchain_falconer.proxy import Embedder, Proxy, check_metrics, train_proxy
from langchain_falconer.report import render_html

HUMAN = "human"
_FEWEST_ANNOTATIONS = 10
_READY = "ready"  # stands in the folder of a proxy that a run has finished
Emit = Callable[[dict[str, Any]], None]
Update = dict[str, Any]


@dataclass(frozen=True)
class _Lesson:
    """What a proxy is trained on, and measured on."""

    plan: Plan
    train: list[Annotation]
    held_out: list[Annotation]
    unlabelled: list[str]


@dataclass(frozen=True)
class Stages:
    """The work of each node, on one home, with one LLM (or a recording of one) and one set of settings."""

    home: Home
    llm: LLM | None = None
    recorded: str | None = None
    """The source whose answers in the store stand in for an LLM: a recording."""
    settings: MineSettings = field(default_factory=MineSettings)

    # ---- plan

    def plan(self, state: FalconerState, emit: Emit) -> Update:
        """The plan: given, written for this instruction before, or written now by the LLM."""
        with _stage(state, "plan", emit) as timed:
            if output := state.get("output"):
                check_output(place(output))
            corpus = self._corpus(state)
            given = state.get("plan")
            plan = Plan.parse(given) if given else None
            run_id = self._run_id(state, corpus, plan)
            self._check_sources(state)
            plan = plan or self._planned(state["instruction"], run_id)
        fresh = {"review": {}, "sample": {}, "round": 0, "annotation": {}, "notes": [], "summary": {}}
        return {**fresh, "run_id": run_id, "plan": plan.to_dict(), "seconds": timed}

    def _planned(self, instruction: str, run_id: str) -> Plan:
        if self.llm is None:
            raise PlanError("there is no LLM to write a plan; give a plan (--plan FILE) or an LLM (--llm MODEL)")
        with self._store() as store:
            return planned(self.home, self.llm, instruction, self._budget(store, run_id))

    def _check_sources(self, state: FalconerState) -> None:
        """Refuse before anything is paid for what cannot end well."""
        if self.llm is None and not state.get("annotations") and self.recorded is None:
            raise SettingsError(
                "nothing can annotate the texts; give an LLM (--llm MODEL) or your own labels (--annotations FILE)"
            )
        if (shares := self.settings.targets.shares) and (self.llm is None or state.get("annotations")):
            raise SettingsError(
                f"a target {next(iter(shares))} needs an LLM that decides what the proxy is not sure of; "
                "drop it or give --llm without --annotations"
            )

    # ---- review

    def question(self, state: FalconerState) -> dict[str, Any]:
        """What the reviewer is shown."""
        plan = Plan.parse(state["plan"] or {})
        shown = {"plan": plan.to_dict(), "pseudocode": to_pseudocode(plan), "mermaid": to_mermaid(plan)}
        error = state.get("review", {}).get("error")
        return {"question": "Is this plan right?", **shown, **({"error": error} if error else {})}

    def reviewed(self, state: FalconerState, review: Review) -> Update:
        """What the reviewer decided; an edit that is no plan is asked about again."""
        if review.action == "edit":
            try:
                plan = Plan.parse(review.plan or {})
            except PlanError as error:
                return {"review": {"action": "again", "error": str(error)}}
            return {"plan": plan.to_dict(), "review": {"action": "approve"}}
        return {"review": {"action": review.action, "reason": review.reason}}

    def rejected(self, state: FalconerState) -> Update:
        """The summary of a run whose plan was refused."""
        return {
            "summary": {"run_id": state["run_id"], "rejected": state["review"].get("reason") or "the plan was rejected"}
        }

    # ---- sample

    def sample(self, state: FalconerState, emit: Emit) -> Update:
        """One pass over the corpus: bad rows show, and the texts to annotate are drawn."""
        plan, folder = self._plan_of(state), self._folder(state)
        self.settings.targets.check_plan(plan)
        check_metrics(plan, self._metrics)
        with _stage(state, "sample", emit) as timed:
            sample = Sample.load(folder / "sample-0.json")
            if sample is None:
                sample = self._sampled(state, plan, emit)
                sample.save(folder / "sample-0.json")
            if self.settings.targets.shares:
                self._check_targets(state, plan, sample, emit)
        return {"sample": sample.counts(), "seconds": timed}

    def _check_targets(self, state: FalconerState, plan: Plan, sample: Sample, emit: Emit) -> None:
        """Say what the targets take, and refuse them if they can't be certified: before any text is paid for."""
        targets, drawn = self.settings.targets, self._drawn(state)
        fewest = targets.fewest(len(drawn), sample.documents - sample.bad_rows)
        for hint in targets.hints(len(drawn)):
            emit({"note": hint})
        if (cap := self.settings.budget.max_calls) is None:
            return
        to_learn = {*sample.held_out, *sample.train}
        with self._store() as store:
            learn, judge = (
                has_answers(store, plan, list(texts), self._source(state)).count(False)
                for texts in (to_learn, {*drawn.values()} - to_learn)
            )
            spent = store.spent(state["run_id"]).calls
        steps = sum(step.where is None for step in plan.top_level)
        calls = spent + steps * sum(-(-n // self.settings.annotate.texts_per_call) for n in (learn, judge))
        if judge and calls > cap:
            raise SettingsError(
                f"max_calls of {cap} cannot certify the targets: to annotate {learn} texts to learn from and {judge} "
                f"more to certify takes at least {calls} calls; raise it, or let fewer texts certify (--certify, at "
                f"least {fewest})"
            )

    def _drawn(self, state: FalconerState) -> dict[int, str]:
        """The rows that certificates rest on, by place; none without targets."""
        targets, file = self.settings.targets, self._folder(state) / "drawn.json"
        if not targets.shares:
            return {}
        if (kept := read_json(file)) is None:
            drawn = draw_rows(self._corpus(state), targets.annotations, self.settings.seed)
            write_json(file, kept := {"rows": list(drawn.items())})
        return dict(kept["rows"])

    def _sampled(self, state: FalconerState, plan: Plan, emit: Emit) -> Sample:
        passages = Passages(self._corpus(state), self.settings.passage_chars, lambda n: emit({"done": n}))
        if file := state.get("annotations"):
            annotations = read_annotations(Path(file), plan)
            with self._store() as store:
                store_annotations(store, plan, annotations)
            return sample_of_given([a.text for a in annotations], passages, self.settings)
        if self.llm is None:
            with self._store() as store:
                source = self._source(state)
                return sample_of_known(passages, lambda texts: has_answers(store, plan, texts, source), self.settings)
        return sample_for_llm(passages, plan, self.settings, Embedder(self.settings.base))

    # ---- annotate

    def annotate(self, state: FalconerState, emit: Emit) -> Update:
        """The LLM answers the plan's steps about the sampled texts; a person's answers are there already."""
        plan, sample = self._plan_of(state), self._sample(state)
        notes = list(state.get("notes", []))
        texts = [*sample.held_out, *sample.train]
        facts = dict(state.get("annotation", {}))
        with _stage(state, "annotate", emit) as timed, self._store() as store:
            if state.get("annotations") or self.llm is None:
                known = recall(store, plan, texts, self._source(state))
            else:
                known, facts = self._annotated(store, plan, texts, state, emit, facts)
                if facts.get("stopped"):
                    notes.append(f"annotation ended early: {facts['stopped']}")
            spent = store.spent(state["run_id"], "annotate")
        failed = sum(bool(a.failures) for a in known)
        if failed:
            notes.append(f"{failed} texts have a step that the LLM could not answer; the proxy decides them")
        facts |= {"source": self._source(state), "answered": len(known), "failed": failed}
        facts["tokens"] = spent.input_tokens + spent.output_tokens
        return {"annotation": facts, "notes": notes, "seconds": timed}

    def _annotated(
        self,
        store: AnnotationStore,
        plan: Plan,
        texts: list[str],
        state: FalconerState,
        emit: Emit,
        facts: dict[str, Any],
    ) -> tuple[list[Annotation], dict[str, Any]]:
        report = self._asked(store, plan, texts, state, emit)
        known = recall(store, plan, texts, self._source(state))
        if len(known) < min(_FEWEST_ANNOTATIONS, len(texts)):
            reason = report.stopped or "the LLM gave no usable answers"
            raise (BudgetError if "max_" in reason else LLMError)(
                f"only {len(known)} of {len(texts)} texts are annotated, too few to train on: {reason}"
            )
        rejected, stopped = report.rejected_quotes, report.stopped
        if drawn := list(self._drawn(state).values()):
            more = self._asked(store, plan, drawn, state, emit)
            rejected, stopped = rejected + more.rejected_quotes, stopped or more.stopped
        pace = read_json(self._pace_file(state)) or {}
        per_text = pace["seconds"] / pace["texts"] if pace else facts.get("llm_seconds_per_text")
        return known, {"rejected_quotes": rejected, "stopped": stopped, "llm_seconds_per_text": per_text}

    def _asked(
        self, store: AnnotationStore, plan: Plan, texts: list[str], state: FalconerState, emit: Emit | None = None
    ) -> AnnotationReport:
        """Have the LLM answer what is open; its pace over all of this run is kept on disk, for kills happen."""
        assert self.llm is not None
        before, began = len(recall(store, plan, texts, self.llm.name)), time.monotonic()
        annotator = Annotator(self.llm, store, plan, self._budget(store, state["run_id"]), self.settings.annotate)
        show = (lambda done, total: emit({"done": done, "total": total})) if emit else None
        report = annotator.annotate(texts, show)
        if (fresh := len(recall(store, plan, texts, self.llm.name)) - before) > 0:
            file = self._pace_file(state)
            pace = read_json(file) or {"seconds": 0.0, "texts": 0}
            seconds = pace["seconds"] + time.monotonic() - began
            write_json(file, {"seconds": seconds, "texts": pace["texts"] + fresh})
        return report

    def _pace_file(self, state: FalconerState) -> Path:
        return self._folder(state) / "llm_pace.json"

    # ---- train

    def train(self, state: FalconerState, emit: Emit) -> Update:
        """A proxy for exactly these annotations: from the registry if it was trained before, else trained now."""
        plan, sample = self._plan_of(state), self._sample(state)
        notes = list(state.get("notes", []))
        with _stage(state, "train", emit) as timed, self._store() as store:
            source = self._source(state)
            train, held_out = (recall(store, plan, texts, source) for texts in (sample.train, sample.held_out))
            lesson = _Lesson(plan, train, held_out, sample.pool[: self.settings.unlabelled])
            drawn = [*self._drawn(state).values()]
            path = self.home.registry.path(self._proxy_name(lesson, drawn))
            if not (path / _READY).is_file():
                start = self._start(plan, held_out, [*sample.held_out, *drawn])
                self._trained(lesson, start, path, emit, notes)
        proxy = Proxy.load(path)
        facts = proxy.manifest
        training = facts["training"] | {
            "unlabelled": facts["data"]["unlabelled"],
            "operating_points": facts.get("operating_points", {}),
            "scarce": scarce(plan, train),
        }
        return {"proxy": str(path), "training": training, "notes": notes, "seconds": timed}

    def _trained(self, lesson: _Lesson, start: str, path: Path, emit: Emit, notes: list[str]) -> None:
        proxy = train_proxy(
            lesson.plan,
            lesson.train,
            base=start,
            unlabelled=lesson.unlabelled,
            held_out=lesson.held_out,
            settings=self.settings.train,
            passage_chars=self.settings.passage_chars,
            on_step=lambda done, total, loss: emit({"done": done, "total": total, "loss": round(loss, 4)}),
        )
        notes += _early(proxy.manifest["training"]["kept_after"])
        proxy = self._not_worse(lesson.plan, proxy, start, lesson.held_out, notes)
        proxy.calibrate(lesson.held_out, self._metrics)
        proxy.save(path)
        if start != self.settings.base:
            before = self.home.registry.entry(Path(start).name).manifest
            seen = sorted({*before.get("seen", ()), *proxy.manifest.get("seen", ())})
            proxy.note(base=self.settings.base, started_from=Path(start).name, seen=seen)
        try:
            proxy.export()
        except ProxyError as error:
            notes.append(str(error))
        (path / _READY).touch()

    def _start(self, plan: Plan, held_out: list[Annotation], unseen: list[str]) -> str:
        """What training starts from: the base, or a proxy of this home that was trained for something near.

        The proxy is taken only where, untrained for this plan, it agrees better with held-out answers than the base,
        and where its own training saw none of the texts that are to stay ``unseen``.
        """
        base = self.settings.base
        if not held_out or self.settings.train.layers:
            return base
        near = [
            entry
            for entry in self.home.registry.nearest(plan, Embedder(base))
            if entry.manifest["base"] == base and (entry.path / _READY).is_file() and not entry.saw(unseen)
        ]
        if not near:
            return base
        proxy = str(near[0].path)
        return proxy if self._untrained(plan, proxy, held_out) > self._untrained(plan, base, held_out) else base

    def _untrained(self, plan: Plan, base: str, held_out: list[Annotation]) -> float:
        """The agreement of a base with held-out answers before any training."""
        proxy = self._zero_shot(plan, base)
        quality = self._measured(plan, proxy, held_out) if proxy else None
        return quality.agreement.value if quality else 0.0

    def _zero_shot(self, plan: Plan, base: str) -> Proxy | None:
        """A base before any training; None where it answers nothing yet (a Cuckoo checkpoint knows no labels)."""
        try:
            return Proxy.zero_shot(plan, base=base, passage_chars=self.settings.passage_chars)
        except ProxyError:
            return None

    def _not_worse(self, plan: Plan, proxy: Proxy, start: str, held_out: list[Annotation], notes: list[str]) -> Proxy:
        """The trained proxy; or the one it started from, where that agrees better with texts that neither saw."""
        base = self._zero_shot(plan, start)
        if base is None:
            return proxy
        measured = [self._measured(plan, one, held_out) for one in (proxy, base)]
        after, before = (quality.agreement.value if quality else 0.0 for quality in measured)
        if before <= after:
            return proxy
        notes.append(
            f"training made the proxy worse ({before:.0%} agreement before, {after:.0%} after), so the untrained "
            "one is kept; annotate more texts, or ask more clearly"
        )
        base.note(training={**proxy.manifest["training"], "kept": "base"}, data=proxy.manifest["data"])
        return base

    def _proxy_name(self, lesson: _Lesson, drawn: list[str]) -> str:
        """What made the proxy, in short; what it must not have seen is a part of that, by way of its start."""
        told = [(a.text, repr(a.answers)) for a in (*lesson.train, *lesson.held_out)]
        settings = self.settings
        asked = [settings.metrics] if settings.metrics else []
        taught = digest(
            [*told, *drawn],
            len(lesson.train),
            lesson.unlabelled,
            settings.train.model_dump(),
            settings.base,
            settings.passage_chars,
            *asked,
        )
        return f"{lesson.plan.fingerprint}-{taught[:8]}"

    # ---- evaluate

    def evaluate(self, state: FalconerState, emit: Emit) -> Update:
        """How well the proxy agrees with the annotator on texts that training never saw; what is annotated next."""
        plan, sample, folder = self._plan_of(state), self._sample(state), self._folder(state)
        proxy = Proxy.load(state["proxy"])
        with _stage(state, "evaluate", emit) as timed, self._store() as store:
            held_out = recall(store, plan, sample.held_out, self._source(state))
            quality = self._measured(plan, proxy, held_out)
            proxy.note(quality=quality.to_dict() if quality else None, annotator=self._source(state))
            again = self._needs_more(state, quality, sample)
            if again:
                confidence = proxy.confidence(sample.pool)
                sample = next_round(sample, confidence, self.settings.round_annotations)
            # Each round has a file of its own: a run that is started again goes through the very same rounds.
            sample.save(folder / f"sample-{state['round'] + 1}.json")
        facts = quality.to_dict() if quality else {}
        return {
            "quality": facts,
            "sample": sample.counts(),
            "round": state["round"] + 1,
            "again": again,
            "seconds": timed,
        }

    @staticmethod
    def _measured(plan: Plan, proxy: Proxy, held_out: list[Annotation]) -> Quality | None:
        if not held_out:
            return None
        predicted = proxy.answers([a.text for a in held_out], everything=True)
        return evaluate_plan(plan, [a.answers for a in held_out], predicted)

    def _needs_more(self, state: FalconerState, quality: Quality | None, sample: Sample) -> bool:
        target = self.settings.targets.agreement
        if target is None or quality is None or quality.agreement.value >= target:
            return False
        spent = state.get("annotation", {}).get("stopped")
        return not spent and bool(sample.pool) and state["round"] + 1 < self.settings.max_rounds

    @staticmethod
    def after_evaluate(state: FalconerState) -> Literal["annotate", "execute"]:
        """Where the run goes on."""
        return "annotate" if state.get("again") else "execute"

    # ---- execute

    def execute(self, state: FalconerState, emit: Emit) -> Update:
        """The proxy over the whole corpus, in shards; with targets, the LLM where the proxy is not sure enough."""
        plan, sample, folder = self._plan_of(state), self._sample(state), self._folder(state)
        proxy = Proxy.load(state["proxy"])
        with _stage(state, "execute", emit) as timed, self._store() as store:
            known = recall(store, plan, [*sample.held_out, *sample.train], self._source(state))
            texts = (sample.pool + sample.held_out + sample.train)[:256]
            held_out = recall(store, plan, sample.held_out, self._source(state))
            choice = choose_backend(proxy, texts, self.settings.run.backend, held_out)
            scored = bool(self.settings.targets.shares)
            run = Run(proxy, self._corpus(state), folder / "shards", self.settings.run, known, scored)
            output: Place = place(named) if (named := state.get("output")) else folder / "rows.jsonl"
            report = run(None if scored else output, lambda n: emit({"done": n, "total": sample.documents}))
            guarantee: dict[str, Any] | None = None
            if scored:
                report, guarantee = self._completed(store, run, report, output, state, emit)
        pace = {"texts_per_second": report.texts_per_second, "seconds": report.seconds}
        kept = read_json(folder / "pace.json")
        if report.texts_per_second and not (kept and self.settings.run.retry_failed):  # a few rows are no measure
            write_json(folder / "pace.json", pace)
        else:
            pace = kept or pace
        facts = {"rows": report.tally.summary(), "output": str(output), "backend": choice.to_dict(), "pace": pace}
        return {"execution": facts | {"guarantee": guarantee}, "seconds": timed}

    def _completed(
        self, store: AnnotationStore, run: Run, report: RunReport, output: Place, state: FalconerState, emit: Emit
    ) -> tuple[RunReport, dict[str, Any]]:
        """The rows of a run with the LLM's answers where the proxy is not sure enough, and what is promised of them."""
        plan, source, stopped = self._plan_of(state), self._source(state), False
        places = self._drawn(state)
        told = {a.text: a for a in recall(store, plan, places.values(), source)}

        def ask(texts: list[str], most: int) -> list[Annotation]:
            nonlocal stopped
            if most and not stopped:
                stopped = self._asked(store, plan, texts[:most], state).stopped is not None
            return recall(store, plan, texts, source)

        drawn = {place: told.get(text) for place, text in places.items()}
        cascade = Cascade(run, self.settings.targets, drawn, self._folder(state) / "completed")
        done, guarantee = cascade(ask, report, output, lambda n: emit({"done": n, "total": report.tally.total}))
        return done, guarantee.to_dict()

    # ---- report

    def report(self, state: FalconerState, emit: Emit) -> Update:
        """The summary, and the HTML report beside the run."""
        folder = self._folder(state)
        with _stage(state, "report", emit) as timed:
            summary = self._summary(state, timed)
            summary["report"] = str(folder / "report.html")
            rows = read_rows(place(summary["output"]))
            render_html(summary, rows, folder / "report.html")
            write_json(folder / "summary.json", summary)
        return {"summary": summary, "seconds": timed}

    def _summary(self, state: FalconerState, seconds: dict[str, float]) -> dict[str, Any]:
        sample, annotation, execution = state["sample"], state["annotation"], state["execution"]
        training = state["training"]
        corpus = {
            "sources": self._corpus(state).sources,
            "documents": sample["documents"],
            "bad_rows": sample["bad_rows"],
        }
        annotations = {k: annotation.get(k) for k in ("source", "failed", "rejected_quotes")}
        annotations |= {"train": sample["train"], "held_out": sample["held_out"], "rounds": state["round"]}
        return {
            "run_id": state["run_id"],
            "instruction": state["instruction"],
            "plan": state["plan"],
            "corpus": corpus,
            "annotations": annotations,
            "quality": state.get("quality") or None,
            "guarantee": execution.get("guarantee"),
            "cost": self._cost(state),
            "pace": _pace(execution["pace"], annotation.get("llm_seconds_per_text")),
            "rows": execution["rows"],
            "training": training,
            "backend": execution["backend"],
            "seconds": {k: round(v, 2) for k, v in seconds.items()},
            "output": execution["output"],
            "proxy": state["proxy"],
            "messages": [*state.get("notes", []), *training["scarce"], *_thresholds(training["operating_points"])],
        }

    def _cost(self, state: FalconerState) -> dict[str, Any]:
        """What this run paid the LLM, against asking it about every passage at the same tokens a text."""
        with self._store() as store:
            spent, asked = store.spent(state["run_id"]), store.spent(state["run_id"], "annotate")
        cost: dict[str, Any] = {
            "calls": spent.calls,
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "usd": spent.usd,
        }
        texts = (read_json(self._pace_file(state)) or {}).get("texts")
        if texts:
            a_text = (asked.input_tokens + asked.output_tokens) / texts
            cost["tokens_for_every_text"] = round(a_text * state["sample"]["passages"])
        return cost

    # ---- shared

    def _run_id(self, state: FalconerInput, corpus: Corpus, plan: Plan | None) -> str:
        """Identity of a run: what it is asked, of what, by whom. Budget and output may change between tries."""
        spending: Any = {"budget": True, "run": True, "corpus": True, "targets": {"escalate"}}
        settings = self.settings.model_dump(exclude=spending)
        labels = file_digest(state.get("annotations"))
        teacher = self.llm.name if self.llm else self.recorded
        return digest(
            state["instruction"], corpus.fingerprint, plan.fingerprint if plan else None, labels, teacher, settings
        )

    @property
    def _metrics(self) -> dict[str, Metric]:
        return {step: Metric.parse(told) for step, told in self.settings.metrics.items()}

    def _corpus(self, state: FalconerInput) -> Corpus:
        if not state["corpus"]:
            raise CorpusError("no corpus was given; name at least one file or folder")
        return open_corpus_files(state["corpus"], self.settings.corpus)

    def _plan_of(self, state: FalconerState) -> Plan:
        return Plan.parse(state["plan"] or {})

    def _sample(self, state: FalconerState) -> Sample:
        sample = Sample.load(self._folder(state) / f"sample-{state['round']}.json")
        if sample is None:
            raise RunError(f"the sample of run {state['run_id']} is gone from {self.home.folder}; start the run again")
        return sample

    def _folder(self, state: FalconerState) -> Path:
        """The run's folder, by plan: an edited plan starts with a sample of its own."""
        return self.home.run_folder(f"{state['run_id']}-{self._plan_of(state).fingerprint[:8]}")

    def _source(self, state: FalconerInput) -> str:
        """Whose answers count: the person's, the LLM's, or those of the LLM that was recorded."""
        if state.get("annotations"):
            return HUMAN
        if self.llm is not None:
            return self.llm.name
        if self.recorded is None:
            raise AnnotationError("nothing annotates the texts; give an LLM or an annotations file")
        return self.recorded

    def _budget(self, store: AnnotationStore, run_id: str) -> Budget:
        assert self.llm is not None
        return Budget(store, run_id, self.settings.budget, self.llm.price() is not None)

    @contextmanager
    def _store(self) -> Iterator[AnnotationStore]:
        store = self.home.store()
        try:
            yield store
        finally:
            store.close()


@contextmanager
def _stage(state: FalconerState, name: str, emit: Emit) -> Iterator[dict[str, float]]:
    """Announces a stage, and times it on top of earlier visits."""
    timed = dict(state.get("seconds", {})) if name != "plan" else {}
    emit({"event": "begin"})
    began = time.monotonic()
    yield timed
    timed[name] = timed.get(name, 0.0) + time.monotonic() - began
    emit({"event": "end", "seconds": round(timed[name], 2)})


def _early(kept_after: list[float]) -> list[str]:
    """What held-out texts said against the end of training, in words."""
    if all(share == 1 for share in kept_after):
        return []
    shares = " and ".join(f"{share:.0%}" for share in kept_after)
    return [
        f"training went on for too long: kept is what the proxy had learnt after {shares} of the steps, which agrees "
        "better with the held-out texts, the very ones that quality is measured on"
    ]


def _thresholds(points: dict[str, dict[str, Any]]) -> list[str]:
    """What was chosen for the metrics asked for, in words."""
    return [
        f"step '{step}' says yes from a probability of {point['threshold']:.2f} on, for {point['metric']}: precision "
        f"{point['precision']:.2f}, recall {point['recall']:.2f} on the held-out answers that it was chosen on "
        f"({point['n']}, {point['positives']} of them yes)"
        if "threshold" in point
        else f"step '{step}' says yes from one half on: nothing serves {point['metric']} on the held-out texts; "
        "annotate more"
        for step, point in points.items()
    ]


def _pace(pace: dict[str, Any], llm_seconds: float | None) -> dict[str, Any]:
    per_second = pace["texts_per_second"]
    ratio = llm_seconds * per_second if llm_seconds and per_second else None
    return {**pace, "llm_seconds_per_text": llm_seconds, "ratio": ratio}
