"""The tables of the training app; docs/glossary.md says what each word means."""

from training.models.evaluations import Evaluation, EvaluationItem, Promotion
from training.models.runs import RunEvent, TrainingRun
from training.models.snapshots import DatasetSnapshot, SnapshotJudgment
from training.models.triggers import Trigger

__all__ = [
    "DatasetSnapshot",
    "Evaluation",
    "EvaluationItem",
    "Promotion",
    "RunEvent",
    "SnapshotJudgment",
    "TrainingRun",
    "Trigger",
]
