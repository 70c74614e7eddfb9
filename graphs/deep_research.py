"""Deep research over a pile of texts: what an LLM cannot count by reading a few pages, Falconer counts in all of them.

plan (what to search for, what to ask of every document) → gather (a search tool finds documents, which become a
corpus) → count (Falconer answers each question over the whole corpus) → write (a report in which each number is a fact
with the rows behind it).

Run ``langgraph dev`` in this folder: FALCONER_LLM names the LLM, FALCONER_HOME the home, FALCONER_ARCHIVE a stored
corpus that is searched. Elsewhere: ``create_deep_research(falconer, search=…)``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.documents import Document
from langgraph.graph import END, START, StateGraph
from typing_extensions import NotRequired, TypedDict

from langchain_falconer import Falconer
from langchain_falconer.errors import FalconerError, RunError
from langchain_falconer.falconer import MiningResult
from langchain_falconer.tools import CorpusRetriever

Search = Callable[[str], list[Document]]
TOP = 5
PLANNING = (
    "You plan research over a large archive of texts. Given a question, name at most 4 searches that find the "
    "documents it is about, and at most 4 instructions to be carried out on every document found, each in one "
    "sentence, such as 'Extract the company names' or 'Is this a complaint?'. They will be counted."
)
WRITING = (
    "You write a short report that answers the question from facts that were counted. Wherever you give a number, "
    "write the key of its fact in braces instead, such as {F1}; the number is put in its place. Never write a number "
    "yourself."
)


def _schema(title: str, **properties: Any) -> dict[str, Any]:
    closed = {"type": "object", "additionalProperties": False, "required": list(properties)}
    return {"title": title, **closed, "properties": properties}


_TEXTS = {"type": "array", "items": {"type": "string"}}
PLAN = _schema("Research", searches=_TEXTS, questions=_TEXTS)
REPORT = _schema("Report", report={"type": "string"})


class Input(TypedDict):
    """What is asked."""

    question: str


class Output(TypedDict):
    """The report, and the facts behind its numbers: each names the rows that were counted, for ``read_results``."""

    report: str
    facts: list[dict[str, Any]]


class State(Input):
    """Everything in between: plain JSON; documents and rows lie in the home."""

    searches: NotRequired[list[str]]
    questions: NotRequired[list[str]]
    corpus: NotRequired[str]
    documents: NotRequired[int]
    results: NotRequired[list[dict[str, Any]]]
    facts: NotRequired[list[dict[str, Any]]]
    report: NotRequired[str]


def create_deep_research(falconer: Falconer, search: Search | None = None, archive: str | None = None) -> Any:
    """The compiled graph.

    Args:
        falconer: plans, counts and, with its LLM, writes.
        search: finds documents for a query; by default by meaning in a stored corpus.
        archive: the name of that corpus.
    """

    def look_up(query: str) -> list[Document]:
        if search is not None:
            return search(query)
        if archive is None:
            raise RunError("there is nothing to search; give a search tool, or the name of a stored corpus as archive")
        return CorpusRetriever(falconer=falconer, corpus=archive, k=200).invoke(query)

    def plan(state: State) -> dict[str, Any]:
        made = _ask(falconer, PLANNING, state["question"], PLAN)
        return {"searches": made["searches"][:4] or [state["question"]], "questions": made["questions"][:4]}

    def gather(state: State) -> dict[str, Any]:
        name = "research-" + hashlib.sha256(state["question"].encode()).hexdigest()[:8]
        found = [document for query in state["searches"] for document in look_up(query)]
        if not found:
            raise RunError("the searches found no document; ask in other words, or search elsewhere")
        added = falconer.add_documents(name, [Document(d.page_content, metadata=d.metadata) for d in found])
        return {"corpus": name, "documents": added.documents}

    def count(state: State) -> dict[str, Any]:
        corpus, results, facts = falconer.corpus(state["corpus"]), [], []
        for question in state["questions"]:
            try:
                result = falconer.ask(question, corpus)
            except FalconerError as error:
                results.append({"question": question, "error": str(error)})
                continue
            strategy = result.decision.chosen.name if result.decision else None
            results.append({"question": question, "result": result.result, "decision": strategy})
            facts += [{"key": f"F{len(facts) + i}", **fact} for i, fact in enumerate(_facts(question, result), start=1)]
        return {"results": results, "facts": facts}

    def write(state: State) -> dict[str, Any]:
        known = {fact["key"]: fact for fact in state["facts"]}
        shown = [{k: fact[k] for k in ("key", "number", "what")} for fact in state["facts"]]
        told = f"Question: {state['question']}\nFacts: {json.dumps(shown, ensure_ascii=False)}"
        text = _ask(falconer, WRITING, told, REPORT)["report"]
        return {"report": _linked(text, known, state["results"])}

    graph = StateGraph(State, input_schema=Input, output_schema=Output)
    nodes = {"plan": plan, "gather": gather, "count": count, "write": write}
    for before, (name, node) in zip([START, *nodes], nodes.items(), strict=False):
        graph.add_node(name, node)
        graph.add_edge(before, name)
    graph.add_edge("write", END)
    return graph.compile(name="deep_research")


def _ask(falconer: Falconer, system: str, user: str, schema: dict[str, Any]) -> dict[str, Any]:
    if falconer.llm is None:
        raise RunError("research needs an LLM that plans and writes; set FALCONER_LLM, or make the Falconer with llm=…")
    reply = falconer.llm.complete([("system", system), ("user", user)], schema)
    if reply.data is None:
        raise RunError(f"the LLM gave no usable answer ({reply.error}); try again, or another model")
    return reply.data


def _facts(question: str, result: MiningResult) -> Iterator[dict[str, Any]]:
    """What was counted, each number with the arguments of ``read_results`` that give its rows."""
    rows, findings = result.summary.rows, result.summary.findings
    one = {"result": result.result}
    yield {"number": rows.total, "what": "documents looked at", "rows": one}
    yield {
        "number": rows.matched,
        "what": f"documents that match: {question}",
        "rows": {**one, "only_matches": True},
    }
    asked = {step.id for step in result.plan.top_level}
    for step, counts in rows.labels.items():
        for value, number in list(counts.items())[: TOP if step in asked else 0]:
            what = f"documents where '{result.plan[step].instruction}' is {value}"
            yield {"number": number, "what": what, "rows": {**one, "step": step, "value": value}}
    for step, top in findings.top.items() if findings else ():
        if step in rows.spans:
            for value in top[:TOP]:
                what = f"mentions of {value.value!r} ({result.plan[step].instruction})"
                about = {"step": step, "value": value.value, "count_by": step}
                yield {"number": value.count, "what": what, "rows": {**one, **about}}


def _linked(text: str, facts: dict[str, dict[str, Any]], results: list[dict[str, Any]]) -> str:
    """The text with each fact's number and footnote in the place of its key; a sentence with another number is cut."""
    kept, cut, used = [], 0, []
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        keys = re.findall(r"\{(F\d+)\}", sentence)
        if re.search(r"\d", re.sub(r"\{F\d+\}", "", sentence)) or any(key not in facts for key in keys):
            cut += 1
            continue
        used += keys
        kept.append(re.sub(r"\{(F\d+)\}", lambda found: f"{facts[found[1]]['number']}[^{found[1]}]", sentence))
    notes = [_note(facts[key]) for key in dict.fromkeys(used)]
    failed = [f"Not answered: {one['question']} ({one['error']})" for one in results if "error" in one]
    left = [f"({cut} left out: no fact stands behind a number in it.)"] if cut else []
    return "\n\n".join([" ".join(kept), *left, *failed, "\n".join(notes)])


def _note(fact: dict[str, Any]) -> str:
    rows = json.dumps(fact["rows"], ensure_ascii=False)
    return f"[^{fact['key']}]: {fact['number']} {fact['what']}; rows: read_results {rows}"


graph = create_deep_research(
    Falconer(os.environ.get("FALCONER_LLM"), home=os.environ.get("FALCONER_HOME")),
    archive=os.environ.get("FALCONER_ARCHIVE"),
)
