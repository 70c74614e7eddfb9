"""The annotate room: answers about texts from an LLM or a person, exact offsets, kept in a store and paid once.

A store holds hashes, offsets and labels, never a text. What an LLM writes is data: it is checked against a schema, and
a quote counts only where the text holds it letter by letter.
"""

from langchain_falconer.annotate._annotator import AnnotateSettings, AnnotationReport, Annotator
from langchain_falconer.annotate._budget import Budget, BudgetSettings
from langchain_falconer.annotate._files import read_annotations, store_annotations, write_annotations
from langchain_falconer.annotate._ground import Grounding, ground
from langchain_falconer.annotate._recall import Annotation, has_answers, recall
from langchain_falconer.annotate._sampling import choose, most_uncertain
from langchain_falconer.annotate._store import AnnotationStore

__all__ = [
    "AnnotateSettings",
    "Annotation",
    "AnnotationReport",
    "AnnotationStore",
    "Annotator",
    "Budget",
    "BudgetSettings",
    "Grounding",
    "choose",
    "ground",
    "has_answers",
    "most_uncertain",
    "read_annotations",
    "recall",
    "store_annotations",
    "write_annotations",
]
