"""The corrected counts of a run: which annotations they may rest on, and what they are, in all and by group."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langchain_falconer.annotate import UNIFORM_CORRECTIONS, Annotation, AnnotationStore, stored_annotations
from langchain_falconer.corpus import Place
from langchain_falconer.evaluate import MIN_LABELLED, Estimate, Pairs, detectable_difference, estimate_total
from langchain_falconer.execute import (
    ALL,
    TARGET_METRICS,
    DrawnUnit,
    Group,
    GroupTotals,
    Guarantee,
    Quantities,
    Quantity,
    RowCounts,
    RowTally,
    Values,
    labels_of,
    read_rows,
)
from langchain_falconer.graph.context import NodeContext
from langchain_falconer.graph.routing import Router
from langchain_falconer.graph.state import AskOptions, FalconerState
from langchain_falconer.model import Proxy, confidence_of
from langchain_falconer.plan import LabelStep, Plan, matches, resolve
from langchain_falconer.records import Record, ResultRow
from langchain_falconer.report import (
    CountEstimates,
    Decision,
    DetectableDifference,
    Estimates,
    Grouping,
    SpanEstimates,
    Strategy,
)

_COMPARED = 500  # rows that the measured proxy and the one that ran both answer
_COMPARED_CHARS = 600_000
_MAX_COLUMNS = 8
_MAX_LABELS = 12  # by group
_TOP = 10
_MIN_OCCURRENCES = 5  # of a span text among the labelled texts
_MAX_UNMEASURED = 0.1  # of the rows; within it they widen the interval by all that they can be


@dataclass(frozen=True)
class _Sample:
    """Annotations that were drawn uniformly and chose nothing.

    Attributes:
        against: Whose answers they are.
        annotations: The annotations, each with an answer to every step.
        proxy: A proxy that has not learned them; ``None`` where their rows have its answers.
        ran: Whether this is the proxy that ran.
        weights: How often each text was drawn, where rows were drawn rather than texts; empty for texts.
        is_person: Whether a person's answers stand against rows that an LLM answered.
        note: What else there is to know.
        reason: Why there is no estimate of rows that the proxy decided; empty where there is one.
    """

    against: str | None
    annotations: Sequence[Annotation] = ()
    proxy: Proxy | None = None
    ran: bool = True
    weights: Mapping[str, float] = field(default_factory=dict)
    is_person: bool = False
    note: str = ""
    reason: str = ""


def estimate_counts(state: FalconerState, context: NodeContext, rows: RowCounts, output: Place) -> Estimates:
    """Estimate the counts of a run; without uniformly drawn annotations the reason stands in place of the estimates.

    Args:
        state: The state of the job.
        context: The context of the nodes.
        rows: Counts over the rows.
        output: The rows.
    """
    sample, plan = _sample(state, context), context.plan(state)
    top = {step: frozenset(text for text, _ in counts.top[:_TOP]) for step, counts in rows.spans.items()}
    quantities = Quantities(plan, top)
    texts = {annotation.text for annotation in sample.annotations}
    passage_chars = context.settings.passage_chars
    truth = {a.text: quantities.of(_row(plan, a)) for a in sample.annotations}
    tally = RowTally(
        quantities,
        truth,
        texts,
        answered_by=("human",) if sample.is_person else ("human", "llm"),
        passage_chars=None if any(len(text) > passage_chars for text in texts) else passage_chars,
        n_drawn=0 if sample.ran else _COMPARED,
        seed=context.settings.seed,
    ).add_all(read_rows(output))
    return _Estimator(quantities, sample, truth, tally).estimates()


def _row(plan: Plan, annotation: Annotation) -> ResultRow:
    answers = resolve(plan, annotation.answers)
    return Record("", annotation.text, answers.labels, answers.spans, matches(plan, answers)).to_dict()


# ---- what the estimates rest on


def _sample(state: FalconerState, context: NodeContext) -> _Sample:
    routing = state.get("routing") or {}
    chosen = Decision.model_validate(routing["decision"]).chosen if routing.get("decision") else None
    with context.store() as store:
        if chosen is None or chosen.name == "train":
            certified = state["execution"].get("guarantee")
            return _certification(state, context, store) if certified else _test_texts(state, context, store)
        against = routing.get("annotator")
        if chosen.name == "llm":
            return _Sample(against, reason="the LLM left these rows unanswered", note="the LLM itself answered")
        if context.llm is None or (chosen.name == "registry" and not chosen.texts):
            return _Sample(against, reason=_NO_SAMPLE)
        return _verified(state, context, store, chosen)


_NO_SAMPLE = (
    "no annotations were drawn uniformly from this corpus that the proxy has not learned; name an LLM and ask with a "
    "quality, or mine the corpus"
)


def _test_texts(state: FalconerState, context: NodeContext, store: AnnotationStore) -> _Sample:
    """The test texts, by the measured proxy; a person's corrections alone where enough of them were drawn uniformly."""
    proxy, texts = Proxy.load(state["proxy"] or ""), context.sample(state).test
    ran = not proxy.manifest["training"].get("on_all")
    if not ran:
        path = context.folder(state) / "measured" / Path(state["proxy"] or "").name
        proxy = Proxy.load(path)
    annotations = [a for a in context.annotations(store, state, texts) if a.is_complete]
    person = [
        a
        for a in stored_annotations(store, context.plan(state), texts, UNIFORM_CORRECTIONS, corrected=False)
        if a.is_complete
    ]
    source = context.source(state)
    if len(person) >= MIN_LABELLED:
        return _Sample("a person", person, proxy, ran=False, is_person=True)
    notes = []
    if len(annotations) < len(texts):
        notes.append(f"{len(texts) - len(annotations)} more were drawn and not answered")
    if corrected := sum(bool(a.corrected) for a in annotations):
        notes.append(f"a person corrected {corrected} of them")
    if state.get("annotations") or context.llm is None:
        notes.append("this holds if the annotated texts are a random part of the corpus")
    return _Sample(source, annotations, proxy, ran=ran, note="; ".join(notes))


def _certification(state: FalconerState, context: NodeContext, store: AnnotationStore) -> _Sample:
    """The rows drawn for certificates, which the proxy that ran has not learned.

    Those that would have gone to the LLM count as far as such rows were left to the proxy.
    """
    guarantee = Guarantee.model_validate(state["execution"]["guarantee"])
    proxy, plan = Proxy.load(state["proxy"] or ""), context.plan(state)
    sample = context.sample(state)
    learned = {*sample.train, *sample.held_out}
    drawn = Counter(text for text in context.certification_sample(state).values() if text not in learned)
    annotations = [a for a in context.annotations(store, state, drawn) if a.is_complete]
    undecided = guarantee.uncertain / max(guarantee.uncertain + guarantee.escalated, 1)
    weights: dict[str, float] = {}
    for annotation, answers in zip(annotations, proxy.answers([a.text for a in annotations]), strict=True):
        confidence, is_match = confidence_of(answers), matches(plan, resolve(plan, answers))
        concerned = [one for name, one in guarantee.certificates.items() if TARGET_METRICS[name].concerns(is_match)]
        is_left = all(one.allows(confidence) for one in concerned)
        weights[annotation.text] = drawn[annotation.text] * (1.0 if is_left else undecided)
    note = "the rows drawn for the certificates"
    return _Sample(context.source(state), annotations, proxy, weights=weights, note=note)


def _verified(state: FalconerState, context: NodeContext, store: AnnotationStore, chosen: Strategy) -> _Sample:
    """The texts that the proxy was verified on; their rows have its answers."""
    options = context.options(state) or AskOptions()
    router = Router(context, context.plan(state), context.dataset(state), options)
    texts = router.stats.sample[: router.n_verify]
    if chosen.proxy:
        entry = context.home.registry.entry(chosen.proxy)
        texts = [text for text in texts if not entry.trained_on([text])]
    annotations = [a for a in context.annotations(store, state, texts) if a.is_complete]
    return _Sample(context.source(state), annotations, note="the texts that the proxy was verified on")


# ---- the estimates


class _Estimator:
    """Estimates of a plan's quantities by group, from a sample and the totals over the rows."""

    def __init__(self, quantities: Quantities, sample: _Sample, truth: Mapping[str, Values], tally: RowTally) -> None:
        self.quantities = quantities
        self.plan = quantities.plan
        self.sample = sample
        self.truth = truth
        self.tally = tally
        self.labelled, self.compared = tally.values, []
        if sample.proxy is not None:
            self.labelled = self._predicted(list(truth), sample.proxy)
            if not sample.ran:
                self.compared = self._compare(sample.proxy)

    def _predicted(self, texts: list[str], proxy: Proxy) -> dict[str, Values]:
        records = proxy.run(texts)
        return {text: self.quantities.of(one.to_dict()) for text, one in zip(texts, records, strict=True)}

    def _compare(self, proxy: Proxy) -> list[tuple[DrawnUnit, Values]]:
        """Return the drawn rows with the measured proxy's quantities; of long texts fewer rows, to bound the time."""
        drawn = self.tally.drawn
        chars = sum(len(unit.text) for unit in drawn)
        if chars > _COMPARED_CHARS:  # a reservoir holds its first rows in order, so that a part of it is drawn again
            n = max(100, len(drawn) * _COMPARED_CHARS // chars)
            drawn = random.Random(0).sample(drawn, min(n, len(drawn)))
        predicted = self._predicted(list(dict.fromkeys(unit.text for unit in drawn)), proxy)
        return [(unit, predicted[unit.text]) for unit in drawn]

    def estimates(self) -> Estimates:
        """Return all estimates."""
        total = self._counts(ALL, self.tally.groups[ALL])
        return Estimates(
            **dict(total),
            against=self.sample.against,
            texts=len(self.sample.annotations),
            basis=self._basis(),
            groups={**self._columns(), **self._labels()},
        )

    def _basis(self) -> str:
        sample = self.sample
        n, note = len(sample.annotations), f"; {sample.note}" if sample.note else ""
        if sample.reason or not n:
            return sample.note
        return f"what {sample.against} would have counted, by {n} uniformly drawn texts that chose nothing{note}"

    def _columns(self) -> dict[str, Grouping]:
        groupings, taken = {}, {step.id for step in self.plan.steps}
        for column, groups in list(self.tally.columns().items())[:_MAX_COLUMNS]:
            counts = {one.value: self._counts(one, self.tally.groups[one]) for one in groups}
            first, second = list(counts)[:2]
            detectable = _detectable((first, second), counts[first], counts[second])
            name = f"{column} (column)" if column in taken else column
            groupings[name] = Grouping(kind="column", groups=counts, detectable=detectable)
        return groupings

    def _labels(self) -> dict[str, Grouping]:
        groups: dict[str, list[str]] = {}
        for quantity in self.quantities.all():
            if quantity.by and quantity.group not in groups.setdefault(quantity.by, []):
                groups[quantity.by].append(quantity.group)
        totals = self.tally.groups[ALL]
        return {
            by: Grouping(kind="label", groups={one: self._counts(ALL, totals, by, one) for one in labels})
            for by, labels in groups.items()
        }

    def _counts(self, group: Group, totals: GroupTotals, by: str = "", label: str = "") -> CountEstimates:
        def estimate(kind: str, step: str = "", value: str = "") -> Estimate:
            return self._estimate(group, totals, Quantity(kind, step, value, by, label))

        is_all = group == ALL and not by
        labels: dict[str, dict[str, Estimate]] = {}
        spans: dict[str, SpanEstimates] = {}
        for step in self.plan.ordered if not by else self.plan.top_level:
            names = labels_of(step)
            if step.id == by or (not is_all and len(names) > _MAX_LABELS):
                continue
            if isinstance(step, LabelStep):
                labels[step.id] = {name: estimate("label", step.id, name) for name in names}
            else:
                texts = estimate("texts", step.id) if step.of is None else None
                top = self.quantities.top.get(step.id, ()) if is_all else ()
                values = {value: estimate("value", step.id, value) for value in top}
                spans[step.id] = SpanEstimates(texts=texts, spans=estimate("spans", step.id), top=values)
        rows = totals.rows if not by else totals.counted[Quantity("label", by, label)]
        matched = self._estimate(group, totals, Quantity("match" if not by else "label", by, label))
        return CountEstimates(rows=rows, matched=matched, labels=labels, spans=spans)

    def _estimate(self, group: Group, totals: GroupTotals, quantity: Quantity) -> Estimate:
        counted, at_most_one = totals.counted[quantity], self.quantities.at_most_one(quantity)
        answered = totals.answered_totals(quantity)
        predicted = totals.predicted_totals(quantity, at_most_one=at_most_one)
        unmeasured = totals.long_rows if at_most_one else 0
        if self.sample.reason and predicted.rows + unmeasured:
            unmeasured += int(predicted.rows)
            if not at_most_one or unmeasured > _MAX_UNMEASURED * totals.rows:
                return Estimate.unknown(counted, self.sample.reason)
            guess = predicted.total + totals.long[quantity]
            return _widened(Estimate.exact(answered.total), counted, guess, unmeasured)
        if unmeasured > _MAX_UNMEASURED * totals.rows:
            return Estimate.unknown(counted, _LONG)
        labelled = self._labelled(totals, quantity)
        if quantity.kind == "value" and labelled.truth.sum() + labelled.predicted.sum() < _MIN_OCCURRENCES:
            return Estimate.unknown(counted, "too few of the uniformly drawn texts have it")
        compared = None if self.sample.ran else self._compared(group, quantity, rows_only=at_most_one)
        estimate = estimate_total(answered, predicted, labelled, compared, at_most_one=at_most_one)
        return _widened(estimate, counted, totals.long[quantity], unmeasured)

    def _labelled(self, totals: GroupTotals, quantity: Quantity) -> Pairs:
        texts = [text for text in totals.labelled if text in self.labelled and text in self.truth]
        rows = [float(totals.labelled[text]) for text in texts]
        if self.sample.weights:
            everywhere = self.tally.groups[ALL].labelled
            rows = [self.sample.weights[t] * n / everywhere[t] for t, n in zip(texts, rows, strict=True)]
        truth = [self.truth[text].get(quantity, 0) for text in texts]
        return Pairs.of(truth, [self.labelled[text].get(quantity, 0) for text in texts], rows)

    def _compared(self, group: Group, quantity: Quantity, *, rows_only: bool) -> Pairs:
        pairs = [
            (measured.get(quantity, 0), unit.values.get(quantity, 0))
            for unit, measured in self.compared
            if group in unit.groups and (unit.is_row or not rows_only)
        ]
        return Pairs.of([measured for measured, _ in pairs], [ran for _, ran in pairs])


_LONG = (
    "the annotated texts are passages, and these rows are texts of several passages; spans are estimated, and labels "
    "are where the texts are shorter"
)


def _widened(estimate: Estimate, counted: float, guess: float, unmeasured: int) -> Estimate:
    """Return an estimate with rows that nothing is known of: as they were counted, from none to all of them."""
    if estimate.estimate is None or estimate.low is None or estimate.high is None:
        return Estimate.unknown(counted, estimate.reason or "")
    update = {"counted": counted, "estimate": estimate.estimate + guess, "high": estimate.high + unmeasured}
    return estimate.model_copy(update=update)


def _detectable(names: tuple[str, str], one: CountEstimates, other: CountEstimates) -> DetectableDifference:
    def of(a: Estimate, b: Estimate) -> float | None:
        return detectable_difference(a.per(one.rows), b.per(other.rows))

    return DetectableDifference(
        groups=names,
        matched=of(one.matched, other.matched),
        labels={
            step: {name: of(estimate, other.labels[step][name]) for name, estimate in labels.items()}
            for step, labels in one.labels.items()
        },
        spans={step: of(spans.spans, other.spans[step].spans) for step, spans in one.spans.items()},
    )
