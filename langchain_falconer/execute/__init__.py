"""Execution: choice of a backend, resumable runs over a corpus, the cascade with the LLM, and output files."""

from langchain_falconer.execute.backends import (
    BACKEND_TEXTS,
    BACKENDS,
    MIN_AGREEMENT,
    BackendChoice,
    Candidate,
    OpenVinoSession,
    check_run,
    choose_backend,
    share_of_equal_decisions,
)
from langchain_falconer.execute.cascade import Cascade, Guarantee
from langchain_falconer.execute.flat_rows import Cell, FlatTable
from langchain_falconer.execute.partition_cache import PartitionCache
from langchain_falconer.execute.quantities import (
    ALL,
    DrawnUnit,
    Group,
    GroupTotals,
    Quantities,
    Quantity,
    RowTally,
    Values,
    labels_of,
)
from langchain_falconer.execute.runner import Run, RunReport
from langchain_falconer.execute.statistics import RowCounts, RowStatistics, SpanCounts, label_names, most_frequent
from langchain_falconer.execute.targets import (
    TARGET_METRICS,
    Comparison,
    certify_targets,
    check_targets,
    escalation_forecast,
    required_annotations,
    target_hints,
)
from langchain_falconer.execute.writers import check_output, is_flat, parquet_schema, read_rows, write_output

__all__ = [
    "ALL",
    "BACKENDS",
    "BACKEND_TEXTS",
    "MIN_AGREEMENT",
    "TARGET_METRICS",
    "BackendChoice",
    "Candidate",
    "Cascade",
    "Cell",
    "Comparison",
    "DrawnUnit",
    "FlatTable",
    "Group",
    "GroupTotals",
    "Guarantee",
    "OpenVinoSession",
    "PartitionCache",
    "Quantities",
    "Quantity",
    "RowCounts",
    "RowStatistics",
    "RowTally",
    "Run",
    "RunReport",
    "SpanCounts",
    "Values",
    "certify_targets",
    "check_output",
    "check_run",
    "check_targets",
    "choose_backend",
    "escalation_forecast",
    "is_flat",
    "label_names",
    "labels_of",
    "most_frequent",
    "parquet_schema",
    "read_rows",
    "required_annotations",
    "share_of_equal_decisions",
    "target_hints",
    "write_output",
]
