"""How far an LLM can be trusted: its agreement with itself, and with a person where one corrected it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langchain_falconer.annotate.store import AnnotationStore
from langchain_falconer.annotate.view import CORRECTIONS, UNIFORM_CORRECTIONS, Annotation, stored_annotations
from langchain_falconer.evaluate import Quality, evaluate_plan
from langchain_falconer.files import digest
from langchain_falconer.plan import Plan
from langchain_falconer.prompts import DEFAULT_PROMPTS, Prompts
from langchain_falconer.records import Answers, FrozenModel


class Accuracy(FrozenModel):
    """An LLM's answers against those of a person about the same texts.

    Attributes:
        quality: Scores of the LLM, with intervals; the person's answers are the right ones.
        texts: Number of texts that both answered.
        is_uniform: Whether the texts were drawn uniformly. Where they were picked (because they looked wrong, say), the
            scores are those of the picked texts and say nothing about the others.
    """

    quality: Quality
    texts: int
    is_uniform: bool


def source_of(llm: str, prompts: Prompts) -> str:
    """Return the source of an LLM's answers: its name, with a digest of its prompts where they are the user's."""
    return llm if prompts == DEFAULT_PROMPTS else f"{llm}#{digest(prompts.model_dump(mode='json'))[:8]}"


def second_source(source: str) -> str:
    """Return the source of the answers that the LLM gives when it is asked a second time, in another wording."""
    return f"{source}~second"


def self_agreement(store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str) -> Quality | None:
    """Return how well an LLM agrees with itself where it was asked twice; None where it was not.

    No proxy can be expected to agree better with the LLM than the LLM does with itself.

    Args:
        store: Holds the answers.
        plan: The plan.
        texts: The texts, of which those count that were asked about twice; uniform ones for an honest interval.
        source: Source of the first answers.
    """
    first, second = _pairs(store, plan, list(texts), source, second_source(source))
    return evaluate_plan(plan, first, second) if first else None


def accuracy(store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str) -> Accuracy | None:
    """Return an LLM's scores against a person's corrections; None without corrections of what it answered.

    Corrections of uniformly drawn texts alone count where there are any.
    """
    texts = list(texts)
    for human, is_uniform in ((UNIFORM_CORRECTIONS, True), (CORRECTIONS, False)):
        right, answered = _pairs(store, plan, texts, human, source)
        if right:
            return Accuracy(quality=evaluate_plan(plan, right, answered), texts=len(right), is_uniform=is_uniform)
    return None


def trusted_annotations(store: AnnotationStore, plan: Plan, texts: Iterable[str], source: str) -> list[Annotation]:
    """Return the answers about texts that deserve trust, step by step.

    A step's answer counts where a person gave it, or where the LLM gave the same one when it was asked a second time in
    another wording. Answers about spans count with the spans.

    Returns:
        An annotation for each of the texts, in their order, with a trusted answer; it holds these steps alone.
    """
    texts = list(texts)
    second = {a.text: a.answers for a in stored_annotations(store, plan, texts, second_source(source), corrected=False)}
    trusted = []
    for annotation in stored_annotations(store, plan, texts, source):
        again, first = second.get(annotation.text, Answers()), annotation.answers
        steps = {
            step.id
            for step in plan.top_level
            if step.id in annotation.corrected
            or (step.id in first and step.id in again and _part(first, {step.id}) == _part(again, {step.id}))
        }
        if answered := steps & {*first.labels, *first.spans}:
            trusted.append(
                Annotation(
                    annotation.text,
                    _part(first, answered),
                    annotation.source,
                    corrected=annotation.corrected & answered,
                )
            )
    return trusted


def _part(answers: Answers, steps: set[str]) -> Answers:
    labels = {step: label for step, label in answers.labels.items() if step in steps}
    return Answers(labels, {step: spans for step, spans in answers.spans.items() if step in steps})


def _pairs(
    store: AnnotationStore, plan: Plan, texts: Sequence[str], source: str, other: str
) -> tuple[list[Answers], list[Answers]]:
    """Return the answers of two sources about the texts that both answered."""
    by_source = [
        {a.text: a.answers for a in stored_annotations(store, plan, texts, name, corrected=False)}
        for name in (source, other)
    ]
    both = [text for text in texts if all(text in answers for answers in by_source)]
    return [by_source[0][text] for text in both], [by_source[1][text] for text in both]
