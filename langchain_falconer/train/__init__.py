"""Training of a proxy: loop, self-training, checkpoint selection and rehearsal of earlier tasks."""

from langchain_falconer.train.calibrator import calibrate, check_metrics
from langchain_falconer.train.rehearsal import Previous, PreviousTask
from langchain_falconer.train.trainer import UNLABELLED, fit_linear_heads, train_proxy, train_student

__all__ = [
    "UNLABELLED",
    "Previous",
    "PreviousTask",
    "calibrate",
    "check_metrics",
    "fit_linear_heads",
    "train_proxy",
    "train_student",
]
