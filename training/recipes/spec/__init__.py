"""The run specification: what a recipe is asked to do, validated field by field.

This module imports no torch, so that the web process can build its forms from it. Each field carries its
bounds and, in `json_schema_extra`, a `unit` and the `source` of its default. `parse_spec` is the only way in:
what it returns is valid, what it refuses is explained in words that say what would be right.
"""

from training.recipes.spec.names import (
    CANCEL_FILE,
    CHECKPOINTS_DIR,
    ERROR_CODES,
    EVENT_KINDS,
    EVENTS_FILE,
    RESULT_FILE,
    RUN_STATUSES,
    SAMPLES_FILE,
    SPEC_FILE,
    ErrorCode,
    EventKind,
    RunStatus,
)
from training.recipes.spec.online import (
    ALARM_NAMES,
    RULE_NAMES,
    AlarmName,
    OnlineSpec,
    RewardTerm,
    RuleName,
    ScoredSpec,
)
from training.recipes.spec.parsing import RECIPES, Spec, SpecError, explain, parse_spec
from training.recipes.spec.parts import BaseSpec, LearningSpec, Lora, Part, Probes
from training.recipes.spec.preferences import DpoSpec
from training.recipes.spec.reinforcement import (
    GroupSpec,
    GrpoSpec,
    OnlineDpoSpec,
    OnlineTrlSpec,
    PpoSpec,
    Pretraining,
    RlooSpec,
)
from training.recipes.spec.rejection import RejectionSpec
from training.recipes.spec.rewards import RewardSpec
from training.recipes.spec.sampling import SampleSpec
from training.recipes.spec.supervised import SftSpec, SupervisedSpec

__all__ = [
    "ALARM_NAMES",
    "CANCEL_FILE",
    "CHECKPOINTS_DIR",
    "ERROR_CODES",
    "EVENTS_FILE",
    "EVENT_KINDS",
    "RECIPES",
    "RESULT_FILE",
    "RULE_NAMES",
    "RUN_STATUSES",
    "SAMPLES_FILE",
    "SPEC_FILE",
    "AlarmName",
    "BaseSpec",
    "DpoSpec",
    "ErrorCode",
    "EventKind",
    "GroupSpec",
    "GrpoSpec",
    "LearningSpec",
    "Lora",
    "OnlineDpoSpec",
    "OnlineSpec",
    "OnlineTrlSpec",
    "Part",
    "PpoSpec",
    "Pretraining",
    "Probes",
    "RejectionSpec",
    "RewardSpec",
    "RewardTerm",
    "RlooSpec",
    "RuleName",
    "RunStatus",
    "SampleSpec",
    "ScoredSpec",
    "SftSpec",
    "Spec",
    "SpecError",
    "SupervisedSpec",
    "explain",
    "parse_spec",
]
