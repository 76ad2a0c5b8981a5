"""The settings of a recipe as a form, made from the specification's own fields."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from django import forms
from django.conf import settings as site
from django.utils.translation import gettext_noop
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from training.recipes.spec import RECIPES
from training.services.runs import RunError, check_settings, settable_fields, settable_part_fields

# What a person can start; `sample` is queued by evaluations and by requests for responses.
TRAINABLE = ("reward", "dpo", "ppo", "rloo", "grpo", "online_dpo", "rejection", "sft")
COMMON = {
    "sft": ("learning_rate", "epochs", "batch_size"),
    "reward": ("learning_rate", "epochs", "batch_size", "use_margin"),
    "dpo": ("learning_rate", "epochs", "batch_size", "beta"),
    "ppo": ("learning_rate", "steps", "rollout_batch_size", "kl_coefficient", "max_new_tokens"),
    "rloo": ("learning_rate", "steps", "prompts_per_step", "samples_per_prompt", "beta", "max_new_tokens"),
    "grpo": ("learning_rate", "steps", "prompts_per_step", "samples_per_prompt", "beta", "max_new_tokens"),
    "online_dpo": ("learning_rate", "steps", "prompts_per_step", "beta", "max_new_tokens"),
    "rejection": ("samples_per_prompt", "keep", "learning_rate", "epochs", "batch_size", "max_new_tokens"),
}
RECIPE_WORDS = {
    "reward": ("Reward model", "Learns from the preferences to score a response. PPO needs one."),
    "dpo": ("DPO", "Fine-tunes the policy on the preferences directly, without a reward model."),
    "ppo": (
        "PPO",
        "The policy writes responses, the reward model scores them, the policy follows the score.",
    ),
    "rloo": (
        gettext_noop("RLOO"),
        gettext_noop("Like PPO without a value model: responses to one prompt are compared with each other."),
    ),
    "grpo": (
        gettext_noop("GRPO"),
        gettext_noop("Like RLOO, with each group of responses scaled by its own spread."),
    ),
    "online_dpo": (
        gettext_noop("Online DPO"),
        gettext_noop("DPO on pairs of fresh responses, which the reward model puts in order."),
    ),
    "rejection": (
        gettext_noop("Rejection sampling"),
        gettext_noop("Answers each prompt many times, keeps the best by reward, and imitates those."),
    ),
    "sft": ("SFT", "Imitates the responses that raters preferred."),
    "sample": ("Sampling", "Writes responses with one or several models."),
}


def read_value(text: str) -> Any:
    """A form's text as the number it is, else the text itself."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def unwrap(annotation: Any) -> tuple[Any, bool]:
    """The annotation without `| None`, and whether None is allowed."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        return (rest[0] if len(rest) == 1 else annotation), len(rest) < len(get_args(annotation))
    return annotation, False


def is_list_of_parts(annotation: Any) -> bool:
    """Whether the setting is a list of objects, which a person writes as JSON."""
    item = next(iter(get_args(annotation)), None)
    return get_origin(annotation) is list and isinstance(item, type) and issubclass(item, BaseModel)


def describe_field(name: str, info: FieldInfo, *, optional: bool) -> str:
    """The help of a setting: what it is, its unit, its default and where that comes from, its bounds."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    parts = [(info.description or "").replace("null", "empty")]
    if optional and parts[0] == info.description:
        parts.append("Empty: none.")
    if extra.get("unit"):
        parts.append(f"Unit: {extra['unit']}.")
    default = show_value(default_of(name, info))
    if name == "threads":
        default = f"{site.TRAINING_THREADS}, as this installation is set up"
    parts.append(f"Default {default} ({extra['source']})." if extra.get("source") else f"Default {default}.")
    if bounds := describe_bounds(info):
        parts.append(f"Allowed: {bounds}.")
    return " ".join(parts)


def describe_bounds(info: FieldInfo) -> str:
    """The bounds of a number in words."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    found = [
        (word, getattr(mark, key))
        for mark in info.metadata
        for key, word in words.items()
        if hasattr(mark, key)
    ]
    return ", ".join(
        f"{word} {value:,}" if isinstance(value, int) else f"{word} {value:g}" for word, value in found
    )


def show_value(value: Any) -> str:
    """A setting's value as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, BaseModel):
        return "on"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


class SettingsForm(forms.Form):
    """The settings of a recipe, one field each, made from the specification's own fields.

    Parts (`lora`) become a switch and dotted fields (`lora.r`). Once valid, `settings` holds what differs
    from the recipe's defaults, as a run stores it.
    """

    def __init__(self, recipe: str, data: Any = None, *, settings: Mapping[str, Any] | None = None) -> None:
        self.recipe = recipe
        super().__init__(data, initial=flatten(settings or {}), prefix="s")
        self.infos: dict[str, FieldInfo] = {}
        for name in settable_fields(recipe):
            self.add_setting(name, RECIPES[recipe].model_fields[name])
        changed = [name for name in self.initial if name in self.fields and name not in COMMON[recipe]]
        self.visible = [*COMMON[recipe], *changed]

    def add_setting(self, name: str, info: FieldInfo) -> None:
        inner, optional = unwrap(info.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field: forms.Field = forms.BooleanField(required=False, initial=info.default is not None)
            field.help_text = (info.description or "").replace("null", "off")
            self.add_field(name, info, field)
            for part in part_names(name, inner):
                self.add_setting(f"{name}.{part}", inner.model_fields[part])
                if self.is_bound and not self[name].data:
                    self.fields[f"{name}.{part}"].required = False
            return
        if inner is bool:
            field = forms.BooleanField(required=False, initial=info.default)
        elif is_list_of_parts(inner):
            field = forms.JSONField(required=False, initial=info.default)
            field.widget.attrs |= {"rows": 3, "spellcheck": "false"}
        elif get_origin(inner) is Literal:
            field = forms.ChoiceField(choices=[(c, c) for c in get_args(inner)], initial=info.default)
        else:
            default = default_of(name, info)
            shown = "" if default in (None, []) else show_value(default)
            field = forms.CharField(
                required=not optional and name != "threads" and get_origin(inner) is not list,
                initial=shown,
                max_length=1000,
            )
            if inner in (int, float):
                field.widget.attrs |= {"inputmode": "decimal", "autocomplete": "off"}
        field.help_text = describe_field(name, info, optional=optional)
        self.add_field(name, info, field)

    def add_field(self, name: str, info: FieldInfo, field: forms.Field) -> None:
        label = name.replace(".", ": ").replace("_", " ")
        field.label = "LoRA" + label[4:] if label.startswith("lora") else label[:1].upper() + label[1:]
        self.fields[name] = field
        self.infos[name] = info

    @property
    def common(self) -> list[forms.BoundField]:
        """The fields that are changed most often, then those that are prefilled."""
        return [self[name] for name in self.visible]

    @property
    def rest(self) -> list[forms.BoundField]:
        """All other fields."""
        return [self[name] for name in self.fields if name not in self.visible]

    @property
    def rest_open(self) -> bool:
        """Whether the other fields should be in view: one has an error."""
        return any(field.errors for field in self.rest)

    def clean(self) -> dict[str, Any]:
        """Check the settings against the specification; its problems go to their fields."""
        cleaned = super().clean() or {}
        self.settings = self.collect(cleaned)
        try:
            check_settings(self.recipe, self.settings)
        except RunError as error:
            self.add_problems(error.problems)
        return cleaned

    def add_problems(self, problems: Iterable[tuple[str, str]]) -> None:
        """Show each problem at its field, or at the top when there is no such field."""
        for path, message in drop_general(problems):
            message = message.rstrip(".") + "."
            name = self.field_of(path)
            shown = message[:1].upper() + message[1:]
            self.add_error(name, shown if name or not path else f"{path}: {message}")

    def field_of(self, path: str) -> str | None:
        """The field that a problem's path lies in: `lora.targets` for `lora.targets.0`."""
        while path and path not in self.fields:
            path = path.rpartition(".")[0]
        return path or None

    def collect(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        """The values that differ from the defaults, nested as the specification has them."""
        settings: dict[str, Any] = {}
        for name, info in self.infos.items():
            if "." in name or name not in cleaned:
                continue
            value = self.value_of(name, cleaned)
            if value != default_of(name, info):
                settings[name] = value
        return settings

    def value_of(self, name: str, cleaned: Mapping[str, Any]) -> Any:
        inner, optional = unwrap(self.infos[name].annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not cleaned[name]:
                return None
            return {part: self.value_of(f"{name}.{part}", cleaned) for part in part_names(name, inner)}
        value = cleaned.get(name)
        if is_list_of_parts(inner):
            return value or []
        if not isinstance(value, str) or get_origin(inner) is Literal:
            return value
        text = value.strip()
        if not text and get_origin(inner) is list:
            return []
        if not text:
            return None if optional else default_of(name, self.infos[name])
        if inner in (int, float):
            return read_value(text)
        return text if text == "all-linear" else [part.strip() for part in text.split(",") if part.strip()]


def drop_general(problems: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the problems of a value that another problem names a part of: that one says more."""
    found = list(problems)
    return [
        (path, message)
        for path, message in found
        if not path or not any(other.startswith(f"{path}.") for other, _ in found)
    ]


def part_names(name: str, part: type[BaseModel]) -> list[str]:
    """The fields of a part that may be set."""
    return settable_part_fields(name, part)


def default_of(name: str, info: FieldInfo) -> Any:
    """A setting's default as JSON has it; the installation decides how many threads a run gets."""
    if name == "threads":
        return None
    return info.default.model_dump() if isinstance(info.default, BaseModel) else info.default


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Stored settings as the form's dotted fields with their texts."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {prefix + name: True, **flatten(value, f"{prefix}{name}.")}
        elif isinstance(value, list):
            parts = any(isinstance(item, Mapping) for item in value)
            flat[prefix + name] = value if parts else ", ".join(map(str, value))
        elif isinstance(value, bool):
            flat[prefix + name] = value
        else:
            flat[prefix + name] = "" if value is None else show_value(value)
    return flat
