"""Names, sentences and feelings written for this project: open types and words of opinion that no set at hand holds."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

from langchain_falconer.pretrain.tasks import MarkedText

_HERE = Path(__file__).parent
_FILL = re.compile(r"\{(\.?)([\w' ]+?)(?:=([\w' ]+))?\}")
_WORD = re.compile(r"\w+")
_LONGEST = 8
_ELECTION = re.compile(
    r"(?:\b(?:19|20)\d\d )?\b(?:(?:general|local|presidential|parliamentary|mayoral|council|leadership|European|US|"
    r"Scottish|Welsh|Iraqi|Ukrainian|Palestinian|Democratic|Republican) )*(?:by-)?elections?\b"
)
_SIGNS = {"+": "positive", "-": "negative", "0": "neutral", ">": ""}
FAMILIES = {
    "person": (
        "politician", "businessperson", "footballer", "rugby player", "tennis player", "athlete", "coach", "actor",
        "film director", "singer", "writer",
    ),
    "sportsperson": ("footballer", "rugby player", "tennis player", "athlete"),
    "organisation": (
        "political party", "parliament", "government department", "sports club", "sports organisation", "company",
        "bank", "central bank", "airline", "car maker", "news agency", "newspaper", "broadcaster", "authority",
        "international organisation", "trade union", "association", "court", "university", "armed group", "band",
    ),
    "location": ("country", "city", "region", "continent", "district", "ocean or river", "airport", "stadium"),
    "company": ("bank", "airline", "car maker"),
    "creative work": ("film", "book", "song", "television programme", "video game"),
    "product": ("software", "operating system", "games console", "device", "video game"),
    "event": ("sports competition", "festival", "war", "election", "holiday"),
}  # fmt: skip
"""General types, and the more special ones whose names they cover."""


@cache
def names() -> dict[str, str]:
    """The type of each name in ``names.txt``; of a name that stands under two types, the last."""
    return {name: kind for kind, listed in map(_listed, _lines("names.txt")) for name in listed}


def _lines(file: str) -> list[str]:
    """The lines of a file here, comments left out."""
    return [line for line in (_HERE / file).read_text("utf-8").splitlines() if not line.startswith("#")]


def _listed(line: str) -> tuple[str, list[str]]:
    """Name and values of ``name: value; value``."""
    name, _, values = line.partition(": ")
    return name, values.split("; ")


@dataclass
class Section:
    """Lists and sentences of one kind of text."""

    name: str
    lists: dict[str, list[str]] = field(default_factory=dict)
    sentences: list[tuple[str, str]] = field(default_factory=list)


@cache
def sections() -> dict[str, Section]:
    """The sections of ``patterns.txt``; ``review of …`` and ``request to …`` have what all of their kind share too."""
    by_name: dict[str, Section] = {}
    section = Section("")
    for line in _lines("patterns.txt"):
        if line.startswith("== "):
            section = by_name[line[3:]] = Section(line[3:])
        elif line[:2] in ("> ", "+ ", "- ", "0 "):
            section.sentences.append((_SIGNS[line[0]], line[2:]))
        elif ": " in line:
            name, values = _listed(line)
            section.lists[name] = values
    shared = {kind: by_name.pop(kind) for kind in ("review", "request")}
    for name, one in by_name.items():
        if common := shared.get(name.split()[0]):
            one.lists |= common.lists
            one.sentences += common.sentences
    return by_name


def filled(section: Section, count: int) -> list[tuple[str, MarkedText]]:
    """``count`` sentences of a section, each with its sign ("" where it has none); the same each time."""
    rng = random.Random(section.name)
    lists = _by_type() | section.lists
    sentences = []
    for i in range(count):
        sign, pattern = section.sentences[i % len(section.sentences)]
        sentences.append((sign, _filled(rng, pattern, lists)))
    return sentences


@cache
def _by_type() -> dict[str, list[str]]:
    by_type = defaultdict(list)
    for name, kind in names().items():
        by_type[kind].append(name)
    return dict(by_type)


def _filled(rng: random.Random, pattern: str, lists: Mapping[str, Sequence[str]]) -> MarkedText:
    text, spans, at = "", defaultdict(list), 0
    for match in _FILL.finditer(pattern):
        value = _filled(rng, rng.choice(lists[match[2 if not match[3] else 3]]), lists).text
        text += pattern[at : match.start()]
        if not match[1]:
            spans[match[2]].append((len(text), len(text) + len(value)))
        text, at = text + value, match.end()
    return MarkedText(text + pattern[at:], dict(spans))


def named(sentences: Iterable[str]) -> Iterator[MarkedText]:
    """Those of the sentences in which every name is one of :func:`names`, with the names marked by type and family."""
    texts = list(sentences)
    common = {word for text in texts for word in re.findall(r"\b[a-z]+\b", text)}
    for text in texts:
        spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        strange, upto = False, 0
        for word in _WORD.finditer(text):
            if word.start() >= upto and (word[0][0].isupper() or word[0].isdigit()):
                end = _longest(text, word.start())
                if end:
                    spans[names()[text[word.start() : end]]].append((word.start(), end))
                    upto = end
                elif word[0][0].isupper() and word[0] not in _NOT_NAMES:
                    strange |= word.start() > 0 or word[0].lower() not in common
        if spans and not strange:
            for match in _ELECTION.finditer(text):
                spans["election"].append(match.span())
            yield MarkedText(text, _with_families(spans))


def _longest(text: str, start: int) -> int:
    """Return the end of the longest known name that starts here; 0 if none does."""
    ends = [word.end() for word in islice(_WORD.finditer(text, start), _LONGEST)]
    return next((end for end in reversed(ends) if text[start:end] in names()), 0)


_NOT_NAMES = frozenset("I m s t d ve ll re Mr Mrs Ms Dr Sir Lord Lady It There This You That What As The We He She".split())  # fmt: skip # noqa: E501, SIM905


def _with_families(spans: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, Sequence[tuple[int, int]]]:
    general = {
        family: sorted({span for kind in (family, *kinds) for span in spans.get(kind, ())})
        for family, kinds in FAMILIES.items()
    }
    return {**spans, **{family: found for family, found in general.items() if found}}


@cache
def feelings() -> dict[str, re.Pattern[str]]:
    """A pattern for the words of each feeling in ``feelings.txt``."""
    return {
        feeling: re.compile(r"(?<!\w)#?(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE)
        for feeling, words in map(_listed, _lines("feelings.txt"))
    }
