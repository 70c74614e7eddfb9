"""Slices of the test texts on which a proxy is worse than elsewhere, corrected for looking at many of them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from langchain_falconer.evaluate.intervals import Proportion, proportion
from langchain_falconer.records import FrozenModel

_MIN_TEXTS = 15  # in a slice, and outside it
_LEVEL = 0.05


class Slice(FrozenModel):
    """Texts that have something in common.

    Attributes:
        by: ``length``, ``script`` or ``label``.
        value: ``short``, ``medium`` or ``long`` (thirds of the texts); a Unicode script; or a label.
        agreement: Share of the texts with exactly the annotator's answers to the step.
        elsewhere: The same share on the other texts.
        p_value: Probability of so low a share by chance (Fisher's exact test, one-sided), times the slices looked at
            (Holm 1979).
    """

    by: str
    value: str
    agreement: Proportion
    elsewhere: float
    p_value: float

    @property
    def is_worse(self) -> bool:
        """Whether the proxy is worse here than elsewhere, at the 5% level over all slices of the step."""
        return self.p_value <= _LEVEL


def compare_slices(right: Sequence[bool], attributes: Mapping[str, Sequence[str]]) -> tuple[Slice, ...]:
    """Compare each slice with the other texts; those of fewer than 15 texts, or all but 14, are left out.

    Args:
        right: Whether the answers about each text are all right, shape (n,).
        attributes: Values of each text, shape (n,), by what they are.

    Returns:
        The slices, the most clearly worse first.
    """
    from scipy.stats import fisher_exact

    found = []
    for by, values in attributes.items():
        for value, n in Counter(values).items():
            if not _MIN_TEXTS <= n <= len(values) - _MIN_TEXTS:
                continue
            inside = [ok for ok, one in zip(right, values, strict=True) if one == value]
            outside = [ok for ok, one in zip(right, values, strict=True) if one != value]
            table = [[sum(ok), len(ok) - sum(ok)] for ok in (inside, outside)]
            p_value = float(fisher_exact(table, alternative="less")[1])
            found.append((p_value, by, value, proportion(sum(inside), n), sum(outside) / len(outside)))
    found.sort(key=lambda one: one[:3])
    slices, highest = [], 0.0
    for i, (p_value, by, value, agreement, elsewhere) in enumerate(found):
        highest = min(1.0, max(highest, p_value * (len(found) - i)))
        slices.append(Slice(by=by, value=value, agreement=agreement, elsewhere=elsewhere, p_value=highest))
    return tuple(slices)


def attributes_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return length and script of texts."""
    order = sorted(len(text) for text in texts)
    first, second = (order[len(order) * third // 3] for third in (1, 2)) if order else (0, 0)
    lengths = ["short" if len(t) < first else "medium" if len(t) < second else "long" for t in texts]
    return {"length": lengths, "script": [_script(text) for text in texts]}


def _script(text: str) -> str:
    """Return the script of most letters of a text, such as ``latin``, by their names in Unicode."""
    letters = Counter(unicodedata.name(c, "other").split()[0] for c in text[:500] if c.isalpha())
    return letters.most_common(1)[0][0].lower() if letters else "none"
