"""Mistakes of a proxy: what it took for what, how often, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from langchain_falconer.records import FrozenModel

MAX_MISTAKES = 20
_EXAMPLES = 3
_QUOTE_CHARS = 120


class Mistake(FrozenModel):
    """A kind of mistake: a label for another one, or a span that was missed, spurious, or cut at other places.

    Attributes:
        gold: The annotator's label or span text; ``None`` where it has none.
        predicted: The proxy's; ``None`` where it has none.
        n: Number of occurrences.
        quotes: Words of up to three texts where it occurs.
    """

    gold: str | None
    predicted: str | None
    n: int
    quotes: tuple[str, ...] = ()


class Occurrence(NamedTuple):
    """One mistake: in which text, by its index, and at which character."""

    gold: str | None
    predicted: str | None
    text: int
    at: int = 0


def most_frequent_mistakes(occurrences: Iterable[Occurrence], texts: Sequence[str] | None) -> tuple[Mistake, ...]:
    """Return the most frequent mistakes, at most 20, with quotes where the texts are known."""
    found: dict[tuple[str | None, str | None], list[Occurrence]] = {}
    for one in occurrences:
        found.setdefault((one.gold, one.predicted), []).append(one)
    frequent = sorted(found.items(), key=lambda pair: -len(pair[1]))[:MAX_MISTAKES]
    return tuple(
        Mistake(
            gold=gold,
            predicted=predicted,
            n=len(some),
            quotes=_quotes(some, texts) if texts else (),
        )
        for (gold, predicted), some in frequent
    )


def label_mistakes(
    gold: Sequence[frozenset[str]], predicted: Sequence[frozenset[str] | None], texts: Sequence[int], *, multi: bool
) -> list[Occurrence]:
    """Return the wrong labels: of a multi-label step each label that is missing or too many."""
    found: list[Occurrence] = []
    for right, one, text in zip(gold, predicted, texts, strict=True):
        if right == one:
            continue
        answered = one or frozenset()
        if multi:
            found += [Occurrence(name, None, text) for name in sorted(right - answered)]
            found += [Occurrence(None, name, text) for name in sorted(answered - right)]
        else:
            found.append(Occurrence(next(iter(right), None), next(iter(answered), None), text))
    return found


SpanPlace = tuple[int, int, str]
"""Start, end and text of a span."""


def span_mistakes(
    gold: Sequence[Sequence[SpanPlace]], predicted: Sequence[Sequence[SpanPlace]], texts: Sequence[int]
) -> list[Occurrence]:
    """Return the wrong spans; one that overlaps a span of the other side is paired with it."""
    found: list[Occurrence] = []
    for right, answered, text in zip(gold, predicted, texts, strict=True):
        missed, spurious = ([s for s in a if s not in b] for a, b in ((right, answered), (answered, right)))
        for start, end, words in missed:
            other = next((s for s in spurious if s[0] < end and start < s[1]), None)
            if other:
                spurious.remove(other)
            found.append(Occurrence(words, other[2] if other else None, text, start))
        found += [Occurrence(None, words, text, start) for start, _, words in spurious]
    return found


def _quotes(occurrences: Sequence[Occurrence], texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_quote(texts[one.text], one.at) for one in occurrences[:_EXAMPLES]))


def _quote(text: str, at: int) -> str:
    begin = max(0, min(at - _QUOTE_CHARS // 3, len(text) - _QUOTE_CHARS))
    quote = " ".join(text[begin : begin + _QUOTE_CHARS].split())
    return f"{'…' if begin else ''}{quote}{'…' if begin + _QUOTE_CHARS < len(text) else ''}"
