"""Annotations: answers of an LLM or a person about texts, with exact offsets, stored and paid for once.

A store holds hashes, offsets and labels, never a text. What an LLM writes is data: it is checked against a schema, and
a quote counts only where the text holds it letter by letter.
"""

from langchain_falconer.annotate.agreement import (
    Accuracy,
    accuracy,
    second_source,
    self_agreement,
    source_of,
    trusted_annotations,
)
from langchain_falconer.annotate.annotation_files import (
    read_annotations,
    remove_corrections,
    store_annotations,
    store_corrections,
    write_annotations,
)
from langchain_falconer.annotate.annotator import AnnotationReport, Annotator
from langchain_falconer.annotate.budget import Budget
from langchain_falconer.annotate.candidates import retrieve
from langchain_falconer.annotate.grounding import Grounding, UnplacedQuote, ground
from langchain_falconer.annotate.llm_check import CallCheck, LLMCheck, check_llm
from langchain_falconer.annotate.noise import Suspect
from langchain_falconer.annotate.rounds import choose_doubtful, next_round
from langchain_falconer.annotate.sampling import choose
from langchain_falconer.annotate.store import AnnotationStore
from langchain_falconer.annotate.view import (
    CORRECTIONS,
    HUMAN,
    UNIFORM_CORRECTIONS,
    Annotation,
    has_answers,
    stored_annotations,
)

__all__ = [
    "CORRECTIONS",
    "HUMAN",
    "UNIFORM_CORRECTIONS",
    "Accuracy",
    "Annotation",
    "AnnotationReport",
    "AnnotationStore",
    "Annotator",
    "Budget",
    "CallCheck",
    "Grounding",
    "LLMCheck",
    "Suspect",
    "UnplacedQuote",
    "accuracy",
    "check_llm",
    "choose",
    "choose_doubtful",
    "ground",
    "has_answers",
    "next_round",
    "read_annotations",
    "remove_corrections",
    "retrieve",
    "second_source",
    "self_agreement",
    "source_of",
    "store_annotations",
    "store_corrections",
    "stored_annotations",
    "trusted_annotations",
    "write_annotations",
]
