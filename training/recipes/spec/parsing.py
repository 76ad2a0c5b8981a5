"""From JSON or a form to a valid specification, or to words that say what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from training.recipes.spec.parts import TRAINED, Part
from training.recipes.spec.preferences import DpoSpec, KtoSpec, OrpoSpec, SimpoSpec
from training.recipes.spec.reinforcement import GrpoSpec, OnlineDpoSpec, PpoSpec, RlooSpec
from training.recipes.spec.rejection import RejectionSpec
from training.recipes.spec.rewards import RankingRewardSpec, RatingRewardSpec, RewardSpec
from training.recipes.spec.sampling import SampleSpec
from training.recipes.spec.supervised import SftSpec


class SpecError(ValueError):
    """A refused specification. `problems` lists (dotted field path, message); "" is the whole."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in problems))


Spec = (
    SftSpec
    | RewardSpec
    | RankingRewardSpec
    | RatingRewardSpec
    | DpoSpec
    | KtoSpec
    | OrpoSpec
    | SimpoSpec
    | PpoSpec
    | RlooSpec
    | GrpoSpec
    | OnlineDpoSpec
    | RejectionSpec
    | SampleSpec
)
RECIPES: dict[str, type[Spec]] = {
    "sft": SftSpec,
    "reward": RewardSpec,
    "reward_ranking": RankingRewardSpec,
    "reward_rating": RatingRewardSpec,
    "dpo": DpoSpec,
    "kto": KtoSpec,
    "orpo": OrpoSpec,
    "simpo": SimpoSpec,
    "ppo": PpoSpec,
    "rloo": RlooSpec,
    "grpo": GrpoSpec,
    "online_dpo": OnlineDpoSpec,
    "rejection": RejectionSpec,
    "sample": SampleSpec,
}


def parse_spec(raw: object) -> Spec:
    """The specification in `raw` (what json.load gave, or a form's values).

    Raises SpecError naming each bad field."""
    if not isinstance(raw, Mapping):
        raise SpecError([("", f"must be an object with named fields, not {type(raw).__name__}")])
    known = ", ".join(RECIPES)
    name = raw.get("recipe")
    if not isinstance(name, str) or name not in RECIPES:
        wrong = "is required" if name is None else f"{str(name)[:80]!r} is unknown"
        raise SpecError([("recipe", f"{wrong}; it must be one of {known}")])
    try:
        return RECIPES[name].model_validate(dict(raw))
    except ValidationError as error:
        raise SpecError([explain(RECIPES[name], detail) for detail in error.errors()]) from error


def explain(model: type[Part], detail: ErrorDetails) -> tuple[str, str]:
    """One of pydantic's error details as (field path, message)."""
    names = [str(part) for part in detail["loc"]]
    fields = model.model_fields
    if names[:1] == ["train"] and len(names) > 1:  # ("train", "lora", "r") names the kind, not a field
        fields = TRAINED[names.pop(1)].model_fields
    path = ".".join(
        name for name in names if name != "[key]" and "literal[" not in name and "list[" not in name
    )
    given = repr(detail["input"])
    given = given if len(given) <= 80 else given[:77] + "..."
    if detail["type"].startswith("union_tag"):
        return f"{path}.kind", f"must be one of {', '.join(TRAINED)} (it is in {given})"
    if detail["type"] == "missing":
        return path, "is required"
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(names[-1], fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(fields)}"
        return path, f"is not a setting of {'this recipe' if len(names) == 1 else path_of(names)}; {hint}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        field, colon, rest = message.partition(": ")
        return (field, rest) if not path and colon else (path, f"{message} (it is {given})")
    return path, message.replace("Input should", "should").replace("'", "") + f" (it is {given})"


def path_of(names: list[str]) -> str:
    """What the last name was looked for in."""
    return ".".join(names[:-1])
