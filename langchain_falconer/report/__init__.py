"""Reports of a run, its results, quality and cost: typed, as one HTML file and on the terminal."""

from langchain_falconer.report.comparisons import Comparison, read_comparisons, write_comparisons
from langchain_falconer.report.corrected_counts import (
    CountEstimates,
    DetectableDifference,
    Estimates,
    Grouping,
    SpanEstimates,
)
from langchain_falconer.report.findings import Excerpt, Findings, ValueCount, excerpt, find
from langchain_falconer.report.html import render_html
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
    "AnnotationSummary",
    "BreakEven",
    "Comparison",
    "CorpusSummary",
    "Cost",
    "CountEstimates",
    "Decision",
    "DetectableDifference",
    "Estimates",
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
    "excerpt",
    "find",
    "print_entries",
    "print_entry",
    "print_summary",
    "read_comparisons",
    "render_html",
    "write_comparisons",
]
