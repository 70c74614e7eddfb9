"""Prediction: passages, windows, scores and decoding turn texts into the answers of a plan."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property

from langchain_falconer.corpus import overlapping, split_passages
from langchain_falconer.model.cuckoo import prompted_scorer
from langchain_falconer.model.decoding import Calibration, ScoredPassage, Scores, decide, merge
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.marking import Marked
from langchain_falconer.model.scoring import ScoreFn, Scorer, WindowFn
from langchain_falconer.model.sessions import HeadWeights, Session, make_executor
from langchain_falconer.model.tokenization import Tokenizer, WindowSplitter
from langchain_falconer.plan import LabelStep, Plan, SpanStep, atoms, resolve
from langchain_falconer.records import Answers, Span

_OVERLAP = 8  # passages of a long text overlap by this part of their length


@dataclass(frozen=True)
class InputLimits:
    """Limits by which texts are split.

    Attributes:
        passage_chars: Characters of a passage.
        max_tokens: Tokens of one encoder pass.
        is_prompted: Whether each question is put before the text, in an encoder pass of its own (Cuckoo checkpoints).
    """

    passage_chars: int
    max_tokens: int
    is_prompted: bool = False


class Predictor:
    """Answers the steps of a plan with one session.

    May be used from several threads: they share one executor for the network, and tokenise and decode meanwhile.

    Args:
        plan: The steps.
        tokenizer: Reads the texts.
        heads: Query heads of the steps.
        session: Computes the scores.
        calibration: Turns scores into probabilities and decisions.
        limits: Limits by which texts are split.
    """

    def __init__(
        self,
        plan: Plan,
        tokenizer: Tokenizer,
        heads: HeadWeights,
        session: Session,
        calibration: Calibration,
        limits: InputLimits,
    ) -> None:
        self.plan = plan
        self.session = session
        self.calibration = calibration
        self._tokenizer = tokenizer
        self._heads = heads
        self._limits = limits

    def answers(self, texts: Sequence[str], *, apply_conditions: bool = True) -> list[Answers]:
        """Answer every step about each text, steps of spans included.

        Args:
            texts: The texts.
            apply_conditions: Leave out steps whose ``where`` is false.
        """
        index, scorer = self._scorers[None]
        passages = [self._passages(text) for text in texts]
        answers = _decide_all(index, scorer, texts, passages, self.calibration.thresholds)
        if len(self._scorers) > 1:
            if apply_conditions and not self._waits_for_spans:
                answers = [resolve(self.plan, a) for a in answers]  # steps about spans that are not answers are skipped
            places = [[_Passage(text, part) for part in parts] for text, parts in zip(texts, passages, strict=True)]
            answers = self._answer_about_spans(answers, places)
        return [resolve(self.plan, a) for a in answers] if apply_conditions else answers

    def answer_step(self, step: LabelStep | SpanStep, texts: Sequence[str]) -> list[Answers]:
        """Answer one step of the plan about each text, whatever its ``where``."""
        index, scorer = self._scorer([step], self.calibration)
        return _decide_all(index, scorer, texts, list(map(self._passages, texts)), self.calibration.thresholds)

    def answer_new(self, step: LabelStep | SpanStep, texts: Sequence[str], heads: HeadWeights) -> list[Answers]:
        """Answer a step that the plan lacks, with query heads for it; its scores are not calibrated."""
        index = HeadIndex.of([step])
        scorer = self._make_scorer(index, heads, Calibration())
        return _decide_all(index, scorer, texts, list(map(self._passages, texts)), {})

    def step_scorer(self, steps: Sequence[LabelStep | SpanStep], own: Mapping[str, str], heads: HeadWeights) -> ScoreFn:
        """Return a function that scores these steps about whole texts, in one encoder pass a text.

        Args:
            steps: Steps with ids of their own.
            own: The id of the plan's step that answers, by the id of each of ``steps`` that it answers.
            heads: Query heads of all other steps, in their order; their scores are not calibrated.
        """
        new, joint = HeadIndex.of([step for step in steps if step.id not in own]), self._heads.followed_by(heads)
        first_span, first_label = len(self._index.span_texts), len(self._index.label_texts)
        span_rows: list[int] = []
        label_rows: list[int] = []
        for step in steps:
            index, at = (self._index, own[step.id]) if step.id in own else (new, step.id)
            is_new = index is new
            if isinstance(step, SpanStep):
                span_rows.append(index.span_row[at] + is_new * first_span)
            else:
                rows = index.label_rows[at]
                label_rows += [row + is_new * first_label for row in range(rows.start, rows.stop)]
        index = HeadIndex.of(steps)
        scorer = self._make_scorer(index, joint.take(span_rows, label_rows), self.calibration.renamed(own))
        return lambda texts: _score_all(index, scorer, texts, list(map(self._passages, texts)))

    def raw_scores(self, texts: Sequence[str]) -> list[Scores]:
        """Return the scores of every step about passages, without calibration."""
        _, scorer = self._scorer(self.plan.steps, Calibration())
        return scorer(texts)

    # ---- scorers

    @cached_property
    def _executor(self) -> Executor:
        return make_executor(self.session.n_parallel)

    @cached_property
    def _index(self) -> HeadIndex:
        return HeadIndex.of(self.plan)

    @cached_property
    def _windows(self) -> WindowSplitter:
        return WindowSplitter(self._tokenizer, self._limits.max_tokens)

    @cached_property
    def _scorers(self) -> dict[str | None, tuple[HeadIndex, ScoreFn]]:
        """Scorers by group of steps: those about the text (key None), and those about the spans of a step (its id)."""
        groups = {None: self.plan.top_level} | {s.id: c for s in self.plan.steps if (c := self.plan.children(s.id))}
        return {key: self._scorer(steps, self.calibration) for key, steps in groups.items()}

    def _scorer(self, steps: Sequence[LabelStep | SpanStep], calibration: Calibration) -> tuple[HeadIndex, ScoreFn]:
        span_rows = [self._index.span_row[s.id] for s in steps if isinstance(s, SpanStep)]
        label_rows = [
            row
            for s in steps
            if isinstance(s, LabelStep)
            for row in range(self._index.label_rows[s.id].start, self._index.label_rows[s.id].stop)
        ]
        index = HeadIndex.of(steps)
        return index, self._make_scorer(index, self._heads.take(span_rows, label_rows), calibration)

    def _make_scorer(self, index: HeadIndex, heads: HeadWeights, calibration: Calibration) -> ScoreFn:
        def scorer(windows: WindowFn, index: HeadIndex, heads: HeadWeights) -> ScoreFn:
            return Scorer(windows, self._tokenizer.pad_id, index, heads, calibration, self.session, self._executor)

        if self._limits.is_prompted:
            return prompted_scorer(self._tokenizer, self._limits.max_tokens, index, heads, scorer)
        return scorer(self._windows, index, heads)

    # ---- passages and spans

    def _passages(self, text: str) -> list[tuple[int, int]]:
        """Split a text into overlapping passages (start, end), so that one of them contains a span at a cut."""
        size = self._limits.passage_chars
        return overlapping(text, split_passages(text, size), size // _OVERLAP) or [(0, 0)]  # the text is blank

    @cached_property
    def _waits_for_spans(self) -> bool:
        """Return whether a step about the text depends on the answers about its spans."""
        conditions = [step.where for step in self.plan.top_level if step.where]
        return any(self.plan[atom.step].of for where in conditions for atom in atoms(where))

    def _answer_about_spans(self, answers: list[Answers], places: list[list[_Passage]]) -> list[Answers]:
        spans = [dict(a.spans) for a in answers]
        for step in self.plan.top_level:
            if step.id in self._scorers:
                parents = [(i, span) for i, own in enumerate(spans) for span in own.get(step.id, ())]
                answered = iter(
                    self._answer_steps_of(step.id, [(_passage_of(places[i], span), span) for i, span in parents])
                )
                for own in spans:
                    if step.id in own:
                        own[step.id] = tuple(next(answered) for _ in own[step.id])
        return [replace(a, spans=own) for a, own in zip(answers, spans, strict=True)]

    def _answer_steps_of(self, parent: str, spans: list[tuple[_Passage, Span]]) -> list[Span]:
        """Answer the steps ``of`` ``parent`` about each span, and those about the spans in it, recursively."""
        if parent not in self._scorers or not spans:
            return [span for _, span in spans]
        index, scorer = self._scorers[parent]
        marked = [Marked(passage.text, s.start - passage.start, s.end - passage.start) for passage, s in spans]
        answered = []
        for (passage, span), mark, scores in zip(spans, marked, scorer([m.marked for m in marked]), strict=True):
            own = _unmarked(scores, mark, passage.start)
            answers = decide(index.steps, own, passage.document, self.calibration.thresholds)
            inner = {k: tuple(self._answer_steps_of(k, [(passage, s) for s in v])) for k, v in answers.spans.items()}
            answered.append(replace(span, labels=answers.labels, spans=inner))
        return answered


class _Passage:
    """A passage of a document."""

    __slots__ = ("document", "end", "start")

    def __init__(self, document: str, part: tuple[int, int]) -> None:
        self.document = document
        self.start, self.end = part

    @property
    def text(self) -> str:
        return self.document[self.start : self.end]


def _decide_all(
    index: HeadIndex,
    scorer: Callable[[Sequence[str]], list[Scores]],
    texts: Sequence[str],
    passages: Sequence[Sequence[tuple[int, int]]],
    thresholds: Mapping[str, float],
) -> list[Answers]:
    """Answer each text."""
    scores = _score_all(index, scorer, texts, passages)
    return [decide(index.steps, one, text, thresholds) for one, text in zip(scores, texts, strict=True)]


def _score_all(
    index: HeadIndex, scorer: ScoreFn, texts: Sequence[str], passages: Sequence[Sequence[tuple[int, int]]]
) -> list[Scores]:
    """Score each text: the passages of all texts are scored in common batches, then merged by text."""
    scores = iter(scorer([text[a:b] for text, parts in zip(texts, passages, strict=True) for a, b in parts]))
    return [merge([ScoredPassage(part[0], next(scores), part) for part in parts], index) for parts in passages]


def _passage_of(passages: list[_Passage], span: Span) -> _Passage:
    """Return the first passage that contains the span; passages are sorted by start and by end."""
    return passages[bisect.bisect_left(passages, span.end, key=lambda passage: passage.end)]


def _unmarked(scores: Scores, mark: Marked, offset: int) -> Scores:
    """Convert the spans of a marked passage to offsets of the document; a span of markers only is dropped."""
    spans = {}
    for step_id, scored in scores.spans.items():
        moved = [(mark.unmap(a), mark.unmap(b), p) for a, b, p in scored]
        spans[step_id] = [(a + offset, b + offset, p) for a, b, p in moved if a < b]
    return Scores(scores.labels, spans, scores.none_prob, scores.n_tokens)
