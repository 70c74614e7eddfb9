"""Phrasings of questions: one type, many instructions, so that the metamodel learns meanings, not strings."""

from __future__ import annotations

import random
import re

ASK_SPAN = (
    "{x}",
    "{x}",
    "Extract the {x}",
    "Extract all {x}",
    "Extract {x}.",
    "Find every {x}",
    "Find the {x} in the text",
    "Find all mentions of {x}",
    "List the {x}",
    "Which {x} are mentioned?",
    "What {x} does the text name?",
    "Mark each {x}",
    "Get the {x} mentioned in this {text}",
)
ASK_MENTION = (
    "Does the {text} mention {x}?",
    "Is any {x} mentioned?",
    "Does this name a {x}?",
    "Mentions {x}",
    "Is there a {x} in the {text}?",
)
ASK_IS = (
    "Is this about {x}?",
    "Is the {text} about {x}?",
    "Does the {text} concern {x}?",
    "Does it fit '{x}'?",
    "{x}",
)

TYPES = {
    "person": ("person", "people", "names of people", "person name", "individuals"),
    "location": ("location", "place", "places and locations", "geographical places"),
    "organisation": ("organisation", "organization", "organisations such as companies and institutions", "institution"),
    "group": ("group", "bands and sports teams", "team or band", "groups of people such as teams and bands"),
    "creative-work": ("creative work", "titles of songs, films, books and shows", "title of a work"),
    "corporation": ("company", "companies", "corporation", "names of companies and corporations"),
    "product": ("product", "names of products", "products and devices"),
    "country": ("country", "countries", "nations"),
    "event": ("event", "events", "named events"),
    "misc": ("other named entity", "nationalities, languages and other names", "miscellaneous named things"),
    "writer": ("writer", "authors", "writers and poets"),
    "book": ("book", "book title", "titles of books"),
    "poem": ("poem", "titles of poems"),
    "magazine": ("magazine", "magazines and journals"),
    "literarygenre": ("literary genre", "genres of literature"),
    "musicalartist": ("musician", "musical artist", "singers and musicians"),
    "band": ("band", "music groups", "names of bands"),
    "musicgenre": ("music genre", "styles of music"),
    "album": ("album", "album titles"),
    "song": ("song", "song titles", "songs or tracks"),
    "musicalinstrument": ("musical instrument", "instruments"),
    "algorithm": ("algorithm", "algorithms and models"),
    "field": ("research field", "fields of research", "scientific discipline"),
    "task": ("task", "machine learning task", "problems that a system solves"),
    "researcher": ("researcher", "scientists", "names of researchers"),
    "metrics": ("evaluation metric", "metrics", "measures of quality"),
    "conference": ("conference", "scientific conferences"),
    "university": ("university", "universities", "names of universities"),
    "programlang": ("programming language", "programming languages"),
    "aspect": (
        "aspect",
        "aspects of the restaurant",
        "features that the reviewer talks about",
        "aspects the customer mentions",
        "what the reviewer gives an opinion on",
        "the things that are praised or criticised",
    ),
    "disease": ("disease", "diseases", "mention of a disease", "illnesses and disorders", "medical conditions"),
    "skill": ("skill", "skills that the candidate needs", "abilities and tasks of the job", "required skills"),
    "knowledge": ("knowledge requirement", "technologies, subjects and degrees required", "required knowledge"),
    "toxic": ("toxic words", "insults", "rude or offensive words", "words that make the comment toxic"),
    "amount_of_money": ("amount of money", "sums of money", "price", "money"),
    "date": ("date", "dates", "days"),
    "time": ("time", "times of day"),
    "person_name": ("person name", "name of the person", "names of people"),
    "company_name": ("company", "company name", "names of companies"),
    "adults": ("number of adults",),
    "kids": ("number of children", "number of kids"),
    "people": ("number of people", "how many people"),
    "rooms": ("number of rooms",),
    "date_from": ("start date", "date of arrival", "first day"),
    "date_to": ("end date", "date of departure", "last day"),
    "time_from": ("start time",),
    "time_to": ("end time",),
    "date_period": ("period", "period of days", "time span"),
    "time_period": ("duration", "period of time"),
    "shopping_category": ("shopping category", "kind of purchase"),
    "politician": ("politician", "politicians", "names of politicians"),
    "political party": ("political party", "political parties", "parties"),
    "election": ("election", "elections", "elections and ballots"),
    "actor": ("actor", "actors", "actors mentioned", "actors and actresses"),
    "director": ("director", "directors", "directors of films"),
    "character": ("character", "names of characters", "characters of the film", "names of movie characters"),
    "year": ("year", "years", "release year", "year, decade or period", "when it was made"),
    "genre": ("genre", "genres", "movie genre", "genre of the film"),
    "plot": ("plot", "words that describe the plot", "what happens in the film", "story of the movie"),
    "opinion": ("opinion", "opinions about the movie", "words of judgement", "opinions"),
    "origin": ("origin", "what it is based on", "where the story comes from"),
    "relation": ("relation to other films", "how the movie relates to other movies", "sequel or remake"),
    "award": ("award", "awards", "awards and prizes", "prizes", "awards that were won or nominated for"),
    "quote": ("quote", "quoted lines", "lines quoted from the film"),
    "soundtrack": ("soundtrack", "songs or music used", "music of the film"),
    "title": ("title", "titles of films", "film titles", "names of movies"),
    "feature": (
        "feature",
        "features that the reviewer talks about",
        "aspects that the reviewer talks about",
        "aspects",
        "what the reviewer gives an opinion on",
        "the things that are praised or criticised",
        "product features",
    ),
}

SENTIMENT = {
    "positive": ("positive", "good", "favourable", "likes it", "praise", "happy with it", "positive opinion", "liked"),
    "negative": ("negative", "bad", "unfavourable", "dislikes it", "complaint", "unhappy with it", "disliked"),
    "neutral": ("neutral", "no opinion", "neither", "matter of fact", "neutral opinion"),
    "mixed": ("mixed", "both good and bad", "mixed feelings"),
}
EMOTIONS = {
    "joy": ("joy", "happiness", "joyful", "delight"),
    "anger": ("anger", "angry", "outrage", "annoyance"),
    "sadness": ("sadness", "sad", "grief or disappointment"),
    "fear": ("fear", "afraid", "worry or fear"),
    "optimism": ("optimism", "hope", "optimistic", "encouragement"),
    "surprise": ("surprise", "surprised", "astonishment"),
    "disgust": ("disgust", "disgusted", "contempt"),
    "love": ("love", "affection", "loving"),
    "none": ("no emotion", "none", "unemotional"),
}


def words_of(name: str) -> tuple[str, ...]:
    """The ways to name a type; a name that is not known stands for itself, alone and in the plural."""
    return TYPES.get(name) or (human(name), _plural(human(name)))


def _plural(name: str) -> str:
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def human(name: str) -> str:
    """A label's name as a person would write it: ``oil_change_how`` becomes ``oil change how``."""
    return re.sub(r"[_\s]+", " ", name).strip()


def instruction_for(rng: random.Random, templates: tuple[str, ...], x: str, text: str = "text") -> str:
    """One wording of a question about ``x``."""
    return rng.choice(templates).format(x=x, text=text)
