"""Deep research over a large archive: Falconer counts over all documents what an LLM cannot count from a few pages.

plan (searches, and questions about every document) → gather (a search tool returns documents, which become a corpus)
→ count (Falconer answers each question over the whole corpus) → write (a report in which every number is a fact with
the rows behind it).

Run ``langgraph dev`` in this folder: FALCONER_LLM names the LLM, FALCONER_HOME the home, FALCONER_ARCHIVE the stored
corpus to search. In other programs: ``create_deep_research(falconer, search=…)``.
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
    """The input of the graph."""

    question: str


class Output(TypedDict):
    """The report, and the facts behind its numbers; ``rows`` of a fact are arguments of ``read_results``."""

    report: str
    facts: list[dict[str, Any]]


class State(Input):
    """The state of the graph: plain JSON; documents and rows are stored in the home."""

    searches: NotRequired[list[str]]
    questions: NotRequired[list[str]]
    corpus: NotRequired[str]
    documents: NotRequired[int]
    results: NotRequired[list[dict[str, Any]]]
    facts: NotRequired[list[dict[str, Any]]]
    report: NotRequired[str]


def create_deep_research(falconer: Falconer, search: Search | None = None, archive: str | None = None) -> Any:
    """Compile the graph.

    Args:
        falconer: The Falconer that plans, counts and, with its LLM, writes.
        search: Function that returns documents for a query; None for semantic search in a stored corpus.
        archive: Name of that corpus.
    """

    def look_up(query: str) -> list[Document]:
        if search is not None:
            return search(query)
        if archive is None:
            raise RunError("there is nothing to search; give a search tool, or the name of a stored corpus as archive")
        return CorpusRetriever(falconer=falconer, corpus=archive, k=200).invoke(query)

    def plan(state: State) -> dict[str, Any]:
        research = _complete(falconer, PLANNING, state["question"], PLAN)
        return {"searches": research["searches"][:4] or [state["question"]], "questions": research["questions"][:4]}

    def gather(state: State) -> dict[str, Any]:
        name = "research-" + hashlib.sha256(state["question"].encode()).hexdigest()[:8]
        documents = [document for query in state["searches"] for document in look_up(query)]
        if not documents:
            raise RunError("the searches found no document; reword the question, or use another search tool")
        report = falconer.add_documents(name, [Document(d.page_content, metadata=d.metadata) for d in documents])
        return {"corpus": name, "documents": report.documents}

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
        facts = {fact["key"]: fact for fact in state["facts"]}
        brief = [{k: fact[k] for k in ("key", "number", "what")} for fact in state["facts"]]
        prompt = f"Question: {state['question']}\nFacts: {json.dumps(brief, ensure_ascii=False)}"
        text = _complete(falconer, WRITING, prompt, REPORT)["report"]
        return {"report": _link_facts(text, facts, state["results"])}

    graph = StateGraph(State, input_schema=Input, output_schema=Output)
    nodes = {"plan": plan, "gather": gather, "count": count, "write": write}
    for before, (name, node) in zip([START, *nodes], nodes.items(), strict=False):
        graph.add_node(name, node)
        graph.add_edge(before, name)
    graph.add_edge("write", END)
    return graph.compile(name="deep_research")


def _complete(falconer: Falconer, system: str, user: str, schema: dict[str, Any]) -> dict[str, Any]:
    if falconer.llm is None:
        raise RunError("research needs an LLM that plans and writes; set FALCONER_LLM, or pass llm=… to Falconer")
    reply = falconer.llm.complete([("system", system), ("user", user)], schema)
    if reply.data is None:
        raise RunError(f"the LLM gave no usable answer ({reply.error}); try again, or another model")
    return reply.data


def _facts(question: str, result: MiningResult) -> Iterator[dict[str, Any]]:
    """Yield the counts of a result, each with the arguments of ``read_results`` that return its rows."""
    rows, findings = result.summary.rows, result.summary.findings
    source = {"result": result.result}
    yield {"number": rows.total, "what": "documents examined", "rows": source}
    yield {
        "number": rows.matched,
        "what": f"documents that match: {question}",
        "rows": {**source, "only_matches": True},
    }
    top_level = {step.id for step in result.plan.top_level}
    for step, counts in rows.labels.items():
        for value, number in list(counts.items())[: TOP if step in top_level else 0]:
            what = f"documents where '{result.plan[step].instruction}' is {value}"
            yield {"number": number, "what": what, "rows": {**source, "step": step, "value": value}}
    for step, top in findings.top.items() if findings else ():
        if step in rows.spans:
            for value in top[:TOP]:
                what = f"mentions of {value.value!r} ({result.plan[step].instruction})"
                filters = {"step": step, "value": value.value, "count_by": step}
                yield {"number": value.count, "what": what, "rows": {**source, **filters}}


def _link_facts(text: str, facts: dict[str, dict[str, Any]], results: list[dict[str, Any]]) -> str:
    """Replace each key by the number of its fact and a footnote; sentences with any other number are left out."""
    sentences, n_left_out, used = [], 0, []
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        keys = re.findall(r"\{(F\d+)\}", sentence)
        if re.search(r"\d", re.sub(r"\{F\d+\}", "", sentence)) or any(key not in facts for key in keys):
            n_left_out += 1
            continue
        used += keys
        sentences.append(re.sub(r"\{(F\d+)\}", lambda key: f"{facts[key[1]]['number']}[^{key[1]}]", sentence))
    notes = [_note(facts[key]) for key in dict.fromkeys(used)]
    failed = [f"Not answered: {result['question']} ({result['error']})" for result in results if "error" in result]
    left_out = [f"({n_left_out} left out: a number in the sentence is not a fact.)"] if n_left_out else []
    return "\n\n".join([" ".join(sentences), *left_out, *failed, "\n".join(notes)])


def _note(fact: dict[str, Any]) -> str:
    rows = json.dumps(fact["rows"], ensure_ascii=False)
    return f"[^{fact['key']}]: {fact['number']} {fact['what']}; rows: read_results {rows}"


graph = create_deep_research(
    Falconer(os.environ.get("FALCONER_LLM") or None, home=os.environ.get("FALCONER_HOME") or None),
    archive=os.environ.get("FALCONER_ARCHIVE") or None,
)
