"""Wordings of questions: the metamodel learns to follow meanings, so that each question is put in many ways."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

SPAN_WORDINGS = (
    "{x}",
    "{x}",
    "{x}",
    "Extract the {x}",
    "Extract all {x}",
    "Extract {x}.",
    "Extract every {x}",
    "Find every {x}",
    "Find the {x} in the text",
    "Find all mentions of {x}",
    "List the {x}",
    "Which {x} are mentioned?",
    "What {x} does the text name?",
    "Mark each {x}",
    "Get the {x} mentioned in this {text}",
    "What is the {x}?",
    "Extract the {x} from the {text}",
    "the {x}",
    "{x} in the {text}",
    "Pull out the {x}",
    "Give me all {x}",
)
MENTION_WORDINGS = (
    "Does the {text} mention {x}?",
    "Is any {x} mentioned?",
    "Mentions {x}",
    "Is there a {x} in the {text}?",
)
CLASS_WORDINGS = (
    "Is this {x}?",
    "Does this fit: {x}?",
    "Is the answer '{x}'?",
    "Is it right to say of the {text}: {x}?",
    "{x}",
    "{x}?",
)
CHOICE_WORDINGS = (
    "Which of these fits the {text}?",
    "Which label fits?",
    "Classify the {text}",
    "Choose the class of this {text}",
    "{x}",
    "What is the {x} of the {text}?",
    "Classify by {x}",
)
NONE_WORDINGS = ("none of these", "none of the others", "something else", "other", "none", "neither")
ABSENT_TYPES = (
    "algorithm", "album", "poem", "programming language", "ingredient", "flight number", "dosage", "goal scorer",
    "battery life", "species", "political party", "hashtag", "error message", "guitar", "recipe", "interest rate",
    "planet", "gene", "vaccine", "football club", "shoe size", "spaceship", "chess opening", "postcode",
)  # fmt: skip
"""Types that stand in few texts: asked for where no type of the text shares a word with them."""

_COMMAND = re.compile(r"^(?:extract|find|mark|list|identify)\s+(?:(?:all|the|every|each|any)\s+)*", re.IGNORECASE)


def fill(rng: random.Random, wordings: Sequence[str], words: str, text_kind: str = "text") -> str:
    """Put ``words`` into one of the wordings."""
    return rng.choice(wordings).format(x=words, text=text_kind)


def is_sentence(words: str) -> bool:
    """Return whether words are a question of their own, which goes into no other wording."""
    return words.endswith("?") or bool(_COMMAND.match(words)) or len(words.split()) > 8


def span_names(name: str, instruction: str | None) -> list[str]:
    """Return the ways to name a type: its instruction, the noun phrase in that, and its name where that is words."""
    names = []
    if instruction:
        noun = _COMMAND.sub("", instruction).rstrip(". ")
        names = [instruction, noun, re.sub(r"\s*\([^)]*\)", "", noun)]
    readable = in_words(name)
    if not instruction or (len(readable) > 3 and not name.isupper()):
        names.append(readable)
    return list(dict.fromkeys(filter(None, names)))


def class_names(name: str, description: str | None) -> list[str]:
    """Return the ways to name a class: its name in words, and its description."""
    return list(dict.fromkeys(filter(None, (in_words(name), description))))


def in_words(identifier: str) -> str:
    """Return an identifier such as ``flightNumber`` or ``check_in`` in words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", identifier.replace("_", " ").replace(".", " "))
    return (
        spaced if identifier.isupper() else spaced[:1] + re.sub(r"\b[A-Z](?=[a-z])", lambda m: m[0].lower(), spaced[1:])
    )
