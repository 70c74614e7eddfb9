"""The answers of the tools as types: what an agent reads, and the output schemas of MCP.

An answer over the token budget is cut: it has fewer list elements or shorter strings, and ``shortened`` is true.
"""

from __future__ import annotations

from typing_extensions import NotRequired, TypedDict

from langchain_falconer.records import JsonObject


class CorpusEntry(TypedDict):
    """A corpus that can be asked about: a stored one has counts, a file its name."""

    name: str
    file: NotRequired[str]
    documents: NotRequired[int]
    updated: NotRequired[str]
    sources: NotRequired[dict[str, int]]


class CorporaAnswer(TypedDict):
    """The answer of ``list_corpora``."""

    corpora: list[CorpusEntry]
    shortened: NotRequired[bool]


class AdditionAnswer(TypedDict):
    """The answer of ``add_documents``: how many were added, and how many the corpus holds now."""

    corpus: str
    added: int
    duplicates: int
    unreadable: int
    reasons: list[str]
    documents: int
    next: NotRequired[str]
    shortened: NotRequired[bool]


class EstimateAnswer(TypedDict):
    """A count, or with ``per`` a share: as it was counted over the rows, and corrected, with its interval."""

    counted: NotRequired[float | None]
    estimate: float | None
    low: NotRequired[float | None]
    high: NotRequired[float | None]
    level: NotRequired[float]
    reason: NotRequired[str]


class StepAnswer(TypedDict):
    """The answers to a step: counts of its labels, or its most frequent extracted texts."""

    question: str
    counts: NotRequired[dict[str, int]]
    sources: NotRequired[dict[str, dict[str, int]]]
    texts_with: NotRequired[int]
    spans: NotRequired[int]
    top: NotRequired[list[JsonObject]]
    estimates: NotRequired[dict[str, EstimateAnswer]]
    shares: NotRequired[dict[str, EstimateAnswer]]
    read: NotRequired[JsonObject]


class GroupAnswer(TypedDict):
    """The rows of a group.

    Attributes:
        value: What they have in common.
        count: Number of them that pass the filter.
        rows: Number of rows in all that the share is taken of.
        share: ``count`` of ``rows``.
        estimate: The corrected count.
        read: Arguments of ``read_results`` that give the counted rows.
        example: Id and words of one of them.
    """

    value: str
    count: int
    rows: NotRequired[int]
    share: NotRequired[EstimateAnswer]
    estimate: NotRequired[EstimateAnswer]
    read: NotRequired[JsonObject]
    example: NotRequired[JsonObject]


class GroupsAnswer(TypedDict):
    """Counts by group, and the smallest difference of two shares that these data could show."""

    count_by: str
    distinct: int
    values: list[GroupAnswer]
    of: NotRequired[JsonObject]
    detectable: NotRequired[float]
    note: NotRequired[str]
    next_offset: NotRequired[int]


class MiningAnswer(TypedDict):
    """The answer of ``mine_corpus``, ``get_label`` and ``get_span``.

    ``labels`` and ``spans`` hold the answer to each of a few texts; ``guesses`` the positions of those that the LLM
    left out. ``untrained`` marks answers that nothing was trained for.
    """

    result: str | None
    rows: int
    matched: int
    failed: int
    steps: dict[str, StepAnswer]
    examples: list[JsonObject]
    quality: JsonObject | str
    cost: JsonObject
    decision: JsonObject
    messages: list[str]
    next: str
    labels: NotRequired[list[JsonObject | None]]
    spans: NotRequired[list[list[JsonObject] | None]]
    guesses: NotRequired[list[int]]
    untrained: NotRequired[bool]
    read: NotRequired[JsonObject]
    matched_estimate: NotRequired[EstimateAnswer]
    matched_share: NotRequired[EstimateAnswer]
    estimates: NotRequired[str]
    target: NotRequired[JsonObject]
    groups: NotRequired[list[GroupsAnswer]]
    shortened: NotRequired[bool]


class RowsAnswer(TypedDict):
    """The answer of ``read_results``: one row whole, a page of rows, or counts by group."""

    result: str
    row: NotRequired[JsonObject]
    rows: NotRequired[int]
    estimate: NotRequired[EstimateAnswer]
    offset: NotRequired[int]
    page: NotRequired[list[JsonObject]]
    next_offset: NotRequired[int]
    count_by: NotRequired[str]
    distinct: NotRequired[int]
    values: NotRequired[list[GroupAnswer]]
    of: NotRequired[JsonObject]
    detectable: NotRequired[float]
    note: NotRequired[str]
    shortened: NotRequired[bool]
