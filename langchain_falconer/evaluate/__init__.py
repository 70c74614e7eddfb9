"""Evaluation: metrics of agreement, intervals, calibration and guarantees (with numpy and scipy only)."""

from langchain_falconer.evaluate.calibration import expected_calibration_error, fit_scale, fit_temperature, logit
from langchain_falconer.evaluate.estimates import (
    MIN_LABELLED,
    Estimate,
    Pairs,
    RowTotals,
    detectable_difference,
    estimate_sum,
    estimate_total,
)
from langchain_falconer.evaluate.guarantees import (
    Certificate,
    Population,
    can_certify,
    certify,
    certify_jointly,
    min_texts_to_certify,
    tolerated_failures,
)
from langchain_falconer.evaluate.intervals import Proportion, proportion, proportion_by_text
from langchain_falconer.evaluate.learning_curve import CurvePoint, Forecast, LearningCurve, RoundsEnd, forecast
from langchain_falconer.evaluate.metrics import F1Scores, LabelScores, label_scores, span_scores
from langchain_falconer.evaluate.mistakes import Mistake
from langchain_falconer.evaluate.quality import Quality, StepQuality, agreement_by_text, evaluate_plan, score_by_text
from langchain_falconer.evaluate.reliability import Reliability, ReliabilityBin
from langchain_falconer.evaluate.slices import Slice
from langchain_falconer.evaluate.thresholds import OperatingPoint, operating_point

__all__ = [
    "MIN_LABELLED",
    "Certificate",
    "CurvePoint",
    "Estimate",
    "F1Scores",
    "Forecast",
    "LabelScores",
    "LearningCurve",
    "Mistake",
    "OperatingPoint",
    "Pairs",
    "Population",
    "Proportion",
    "Quality",
    "Reliability",
    "ReliabilityBin",
    "RoundsEnd",
    "RowTotals",
    "Slice",
    "StepQuality",
    "agreement_by_text",
    "can_certify",
    "certify",
    "certify_jointly",
    "detectable_difference",
    "estimate_sum",
    "estimate_total",
    "evaluate_plan",
    "expected_calibration_error",
    "fit_scale",
    "fit_temperature",
    "forecast",
    "label_scores",
    "logit",
    "min_texts_to_certify",
    "operating_point",
    "proportion",
    "proportion_by_text",
    "score_by_text",
    "span_scores",
    "tolerated_failures",
]
