"""Training of a proxy: loop, self-training, checkpoint selection and rehearsal of earlier tasks."""

from langchain_falconer.train.calibrator import calibrate, check_metrics
from langchain_falconer.train.rehearsal import Previous, PreviousTask
from langchain_falconer.train.trainer import UNLABELLED, train_proxy

__all__ = ["UNLABELLED", "Previous", "PreviousTask", "calibrate", "check_metrics", "train_proxy"]
