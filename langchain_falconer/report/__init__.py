"""Reports of a run, its results, quality and cost: typed, as one HTML file and on the terminal."""

from langchain_falconer.report.corrected_counts import (
    CountEstimates,
    DetectableDifference,
    Estimates,
    Grouping,
    SpanEstimates,
)
from langchain_falconer.report.evidence import NO_EVIDENCE, Comparison, Evidence, add_unplaced, write_comparisons
from langchain_falconer.report.findings import Excerpt, Findings, ValueCount, excerpt, find
from langchain_falconer.report.html import notebook_html, render_html
from langchain_falconer.report.proxy_tables import print_entries, print_entry
from langchain_falconer.report.summary import (
    AnnotationSummary,
    BreakEven,
    CorpusSummary,
    Cost,
    Decision,
    Pace,
    QualityTarget,
    RunSummary,
    Strategy,
    StrategyName,
    TrainingSummary,
)
from langchain_falconer.report.terminal import print_summary

__all__ = [
    "NO_EVIDENCE",
    "AnnotationSummary",
    "BreakEven",
    "Comparison",
    "CorpusSummary",
    "Cost",
    "CountEstimates",
    "Decision",
    "DetectableDifference",
    "Estimates",
    "Evidence",
    "Excerpt",
    "Findings",
    "Grouping",
    "Pace",
    "QualityTarget",
    "RunSummary",
    "SpanEstimates",
    "Strategy",
    "StrategyName",
    "TrainingSummary",
    "ValueCount",
    "add_unplaced",
    "excerpt",
    "find",
    "notebook_html",
    "print_entries",
    "print_entry",
    "print_summary",
    "render_html",
    "write_comparisons",
]
