"""The settings of a recipe as a form, made from the specification's own fields."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from django import forms
from django.conf import settings as site
from django.utils.translation import gettext, gettext_lazy, gettext_noop, pgettext
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from training.numbers import localize_count
from training.recipes.spec import RECIPES, TRAINED, name_trained
from training.services.runs import RunError, check_settings, settable_fields, settable_part_fields
from training.services.sentences import retell

COMMON = {
    "sft": ("learning_rate", "epochs", "batch_size"),
    "reward": ("learning_rate", "epochs", "batch_size", "margins"),
    "reward_ranking": ("learning_rate", "epochs", "batch_size", "loss"),
    "reward_rating": ("learning_rate", "epochs", "batch_size", "loss"),
    "dpo": ("learning_rate", "epochs", "batch_size", "beta"),
    "kto": ("learning_rate", "epochs", "batch_size", "beta"),
    "orpo": ("learning_rate", "epochs", "batch_size", "beta"),
    "simpo": ("learning_rate", "epochs", "batch_size", "beta", "gamma_ratio"),
    "ppo": ("learning_rate", "steps", "rollout_batch_size", "kl_coefficient", "max_new_tokens"),
    "rloo": ("learning_rate", "steps", "prompts_per_step", "samples_per_prompt", "beta", "max_new_tokens"),
    "grpo": ("learning_rate", "steps", "prompts_per_step", "samples_per_prompt", "beta", "max_new_tokens"),
    "online_dpo": ("learning_rate", "steps", "prompts_per_step", "beta", "max_new_tokens"),
    "rejection": ("samples_per_prompt", "keep", "learning_rate", "epochs", "batch_size", "max_new_tokens"),
}
TRAINED_WORDS = {
    "all": gettext_lazy("every weight"),
    "last_layers": gettext_lazy("the last layers"),
    "head": gettext_lazy("the head alone"),
    "lora": gettext_lazy("LoRA: an adapter of low rank"),
    "qlora": gettext_lazy("QLoRA: an adapter over a 4-bit model (CUDA)"),
    "prompt": gettext_lazy("prompt tuning: virtual tokens"),
    "prefix": gettext_lazy("prefix tuning: virtual keys and values"),
}
# By the marks of pydantic's bounds, the lower one first.
BOUNDS = {
    ("gt",): gettext_noop("Allowed: above %(gt)s."),
    ("ge",): gettext_noop("Allowed: at least %(ge)s."),
    ("lt",): gettext_noop("Allowed: below %(lt)s."),
    ("le",): gettext_noop("Allowed: at most %(le)s."),
    ("gt", "lt"): gettext_noop("Allowed: above %(gt)s, below %(lt)s."),
    ("gt", "le"): gettext_noop("Allowed: above %(gt)s, at most %(le)s."),
    ("ge", "lt"): gettext_noop("Allowed: at least %(ge)s, below %(lt)s."),
    ("ge", "le"): gettext_noop("Allowed: at least %(ge)s, at most %(le)s."),
}


# What pydantic says of a value, as `add_problems` writes it; the specification's own checks keep their words.
VALUE_PROBLEMS = (
    gettext_noop("Is required."),
    gettext_noop("Should be greater than or equal to %(bound)s (it is %(given)s)."),
    gettext_noop("Should be greater than %(bound)s (it is %(given)s)."),
    gettext_noop("Should be less than or equal to %(bound)s (it is %(given)s)."),
    gettext_noop("Should be less than %(bound)s (it is %(given)s)."),
    gettext_noop("Should be a finite number (it is %(given)s)."),
    gettext_noop("Should be a valid integer, unable to parse string as an integer (it is %(given)s)."),
    gettext_noop("Should be a valid integer, got a number with a fractional part (it is %(given)s)."),
    gettext_noop("Should be a valid number, unable to parse string as a number (it is %(given)s)."),
)


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
    """The help of a setting: what it is, its unit, its default and where that comes from, its bounds.

    Whole sentences, one after the other. Numbers are written as the field takes them.
    """
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    sentences = [explain_setting(info).replace("null", pgettext("a field that is left blank", "empty"))]
    if optional and "null" not in (info.description or ""):
        sentences.append(gettext("Empty: none."))
    if extra.get("unit"):
        sentences.append(gettext("Unit: %(unit)s.") % {"unit": pgettext("unit", str(extra["unit"]))})
    sentences += [describe_default(name, info, extra.get("source")), describe_bounds(info)]
    return " ".join(filter(None, sentences))


def explain_setting(info: FieldInfo) -> str:
    """The specification's own words for a field, in the reader's language."""
    return gettext(info.description) if info.description else ""


def describe_default(name: str, info: FieldInfo, source: object) -> str:
    """A setting's default and the paper that it comes from, in a sentence."""
    if name == "threads":
        sentence = gettext("Default %(value)s, as this installation is set up.")
        return sentence % {"value": site.TRAINING_THREADS}
    words = {"value": show_value(default_of(name, info)), "source": source}
    return (gettext("Default %(value)s (%(source)s).") if source else gettext("Default %(value)s.")) % words


def describe_bounds(info: FieldInfo) -> str:
    """The bounds of a number in a sentence; empty when it has none."""
    found = {
        key: getattr(mark, key)
        for key in ("gt", "ge", "lt", "le")
        for mark in info.metadata
        if hasattr(mark, key)
    }
    shown = {key: localize_count(v) if isinstance(v, int) else f"{v:g}" for key, v in found.items()}
    return gettext(BOUNDS[tuple(shown)]) % shown if shown else ""


def show_value(value: Any) -> str:
    """A setting's value in words, or as a person writes it: with a decimal point, whatever the language."""
    if value is None:
        return pgettext("value of a setting", "none")
    if isinstance(value, bool):
        return pgettext("value of a setting", "yes") if value else pgettext("value of a setting", "no")
    if isinstance(value, BaseModel):
        return pgettext("value of a setting", "on")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or pgettext("value of a setting", "none")
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def setting_label(name: str) -> str:
    """A setting's dotted name as an English label: `Learning rate`, `LoRA: dropout`."""
    label = name.replace(".", ": ").replace("_", " ")
    return "LoRA" + label[4:] if label.startswith("lora") else label[:1].upper() + label[1:]


class SettingsForm(forms.Form):
    """The settings of a recipe, one field each, made from the specification's own fields.

    Parts (`probes`) become a switch and dotted fields (`probes.count`); what is trained becomes a choice of
    its kind and the fields of all kinds (`train.r`), of which those of the chosen kind count. Once valid,
    `settings` holds what differs from the recipe's defaults, as a run stores it.
    """

    def __init__(self, recipe: str, data: Any = None, *, settings: Mapping[str, Any] | None = None) -> None:
        self.recipe = recipe
        super().__init__(data, initial=flatten(name_trained(settings or {})), prefix="s")
        self.infos: dict[str, FieldInfo] = {}
        for name in settable_fields(recipe):
            self.add_setting(name, RECIPES[recipe].model_fields[name])
        changed = [name for name in self.initial if name in self.fields and name not in COMMON[recipe]]
        self.visible = [*COMMON[recipe], *changed]

    def add_setting(self, name: str, info: FieldInfo) -> None:
        inner, optional = unwrap(info.annotation)
        if name == "train":
            self.add_trained(info)
            return
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field: forms.Field = forms.BooleanField(required=False, initial=info.default is not None)
            field.help_text = explain_setting(info).replace("null", pgettext("a switch", "off"))
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
                required=not optional
                and name != "threads"
                and get_origin(inner) is not list
                and default != "",
                initial=shown,
                max_length=1000,
            )
            if inner in (int, float):
                field.widget.attrs |= {"inputmode": "decimal", "autocomplete": "off"}
        field.help_text = describe_field(name, info, optional=optional)
        self.add_field(name, info, field)

    def add_trained(self, info: FieldInfo) -> None:
        """What is trained: its kind, and the settings of every kind, each said to belong to which."""
        choices = [(kind, TRAINED_WORDS[kind]) for kind in TRAINED]
        field = forms.ChoiceField(choices=choices, initial=default_of("train", info)["kind"])
        field.help_text = explain_setting(info)
        self.infos["train"] = info
        self.add_field("train.kind", info, field)
        chosen = self["train.kind"].value()
        for part in dict.fromkeys(part for kind in TRAINED.values() for part in kind.model_fields):
            kinds = [kind for kind in TRAINED if part in TRAINED[kind].model_fields]
            if part == "kind":
                continue
            self.add_setting(f"train.{part}", TRAINED[kinds[0]].model_fields[part])
            added = self.fields[f"train.{part}"]
            added.required = added.required and chosen in kinds
            words = {"kinds": ", ".join(kinds), "help": added.help_text}
            added.help_text = gettext("For %(kinds)s. %(help)s") % words

    def add_field(self, name: str, info: FieldInfo, field: forms.Field) -> None:
        field.label = pgettext("setting", setting_label(name))
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
            shown = retell(message[:1].upper() + message[1:], VALUE_PROBLEMS)
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
            if "." in name or (name not in cleaned and name != "train"):
                continue
            value = self.value_of(name, cleaned)
            if value != default_of(name, info):
                settings[name] = value
        return settings

    def value_of(self, name: str, cleaned: Mapping[str, Any]) -> Any:
        inner, optional = unwrap(self.infos[name].annotation)
        if name == "train":
            kind = cleaned.get("train.kind") or default_of("train", self.infos["train"])["kind"]
            parts = [part for part in TRAINED[kind].model_fields if part != "kind"]
            return {"kind": kind} | {part: self.value_of(f"train.{part}", cleaned) for part in parts}
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
        if inner is str:
            return text
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
