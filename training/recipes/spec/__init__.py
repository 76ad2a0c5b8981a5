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
from training.recipes.spec.parsing import RECIPES, Spec, SpecError, explain, parse_spec
from training.recipes.spec.parts import (
    TRAINED,
    BaseSpec,
    Everything,
    Head,
    LastLayers,
    LearningSpec,
    Lora,
    Part,
    PrefixTuning,
    Probes,
    PromptTuning,
    Qlora,
    Trained,
    name_trained,
)
from training.recipes.spec.preferences import DpoSpec, KtoSpec, OrpoSpec, SimpoSpec
from training.recipes.spec.reinforcement import PpoSpec
from training.recipes.spec.rewards import (
    REWARD_RECIPES,
    STRENGTHS,
    ComparedSpec,
    RankingRewardSpec,
    RatingRewardSpec,
    RewardSpec,
    ScoredSpec,
)
from training.recipes.spec.sampling import SampleSpec
from training.recipes.spec.supervised import SftSpec, SupervisedSpec

__all__ = [
    "CANCEL_FILE",
    "CHECKPOINTS_DIR",
    "ERROR_CODES",
    "EVENTS_FILE",
    "EVENT_KINDS",
    "RECIPES",
    "RESULT_FILE",
    "REWARD_RECIPES",
    "RUN_STATUSES",
    "SAMPLES_FILE",
    "SPEC_FILE",
    "STRENGTHS",
    "TRAINED",
    "BaseSpec",
    "ComparedSpec",
    "DpoSpec",
    "ErrorCode",
    "EventKind",
    "Everything",
    "Head",
    "KtoSpec",
    "LastLayers",
    "LearningSpec",
    "Lora",
    "OrpoSpec",
    "Part",
    "PpoSpec",
    "PrefixTuning",
    "Probes",
    "PromptTuning",
    "Qlora",
    "RankingRewardSpec",
    "RatingRewardSpec",
    "RewardSpec",
    "RunStatus",
    "SampleSpec",
    "ScoredSpec",
    "SftSpec",
    "SimpoSpec",
    "Spec",
    "SpecError",
    "SupervisedSpec",
    "Trained",
    "explain",
    "name_trained",
    "parse_spec",
]
