"""Scores a trained model on a labelled split: metrics.json, report.html and the pictures it got most wrong."""

from pixbox.evaluation.run import Evaluation, evaluate_run

__all__ = ["Evaluation", "evaluate_run"]
