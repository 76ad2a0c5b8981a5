"""What the operator fills in. Forms check shapes and words; the services decide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from django import forms

from rating.models import ModelVersion, Project
from training.models import DatasetSnapshot, Trigger
from training.services.evaluations import EVALUATION_PROMPTS
from training.services.storable import read_json, refuse_number

FREEZE = "now"
SNAPSHOTS_OFFERED = 100
STEP_PATH = re.compile(r"plan\[(\d+)\](?:\.|: )")
PLAN_EXAMPLE = json.dumps(
    [
        {"recipe": "reward", "settings": {"epochs": 3, "learning_rate": 0.0003}},
        {"recipe": "ppo", "settings": {"steps": 40}},
    ],
    indent=2,
)


class RunForm(forms.Form):
    """What a run works on: the snapshot and the policy to start from."""

    snapshot = forms.ChoiceField(help_text="The judgments to learn from.")
    policy = forms.ModelChoiceField(
        ModelVersion.objects.none(),
        label="Start from",
        empty_label=None,
        help_text="The model version to train. The user model, unless you choose another.",
        error_messages={"required": "Choose the model version to start from. Is there a base model yet?"},
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.snapshots = {
            str(snapshot.pk): snapshot
            for snapshot in DatasetSnapshot.objects.filter(project=project)[:SNAPSHOTS_OFFERED]
        }
        snapshot, policy = self.fields["snapshot"], self.fields["policy"]
        assert isinstance(snapshot, forms.ChoiceField)
        assert isinstance(policy, forms.ModelChoiceField)
        snapshot.choices = [
            (FREEZE, "Freeze a new one now"),
            *(
                (key, f"{s.number}, frozen {s.created_at:%Y-%m-%d %H:%M} UTC")
                for key, s in self.snapshots.items()
            ),
        ]
        policy.queryset = ModelVersion.objects.filter(project=project, kind=ModelVersion.Kind.POLICY)

    def clean_snapshot(self) -> DatasetSnapshot | None:
        """The chosen snapshot; None when a new one is to be frozen."""
        return self.snapshots.get(self.cleaned_data["snapshot"])


class TriggerForm(forms.Form):
    """When runs start by themselves, and which. The service checks what it says."""

    name = forms.CharField(max_length=120, help_text="How it is called on the overview.")
    enabled = forms.BooleanField(
        required=False, initial=True, help_text="A trigger that is off keeps counting and does not fire."
    )
    every_judgments = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000_000,
        label="Every so many new judgments",
        help_text="Counted from the last time it fired. Empty: the schedule alone decides.",
    )
    schedule = forms.CharField(
        required=False,
        max_length=100,
        label="On a schedule",
        help_text="Cron fields in UTC: minute, hour, day, month, weekday. 0 3 * * * is every day at 03:00.",
    )
    plan = forms.CharField(
        max_length=100_000,
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false", "class": "code"}),
        help_text="A JSON list of steps: each names a recipe and the settings that differ from its defaults.",
    )

    def __init__(self, data: Any = None, *, trigger: Trigger | None = None) -> None:
        initial: dict[str, Any] = {"plan": PLAN_EXAMPLE}
        if trigger is not None:
            initial = {name: getattr(trigger, name) for name in self.base_fields if name != "plan"}
            initial["plan"] = json.dumps(trigger.plan, indent=2, ensure_ascii=False)
        super().__init__(data, initial=initial)

    def clean_plan(self) -> Any:
        try:
            return read_json(self.cleaned_data["plan"], odd_number=refuse_number)
        except ValueError as error:
            raise forms.ValidationError(f"This is not JSON: {error}. See the example below.") from None

    def add_problems(self, problems: Iterable[tuple[str, str]]) -> None:
        """Show what the service refused at the fields it names."""
        for field, message in problems:
            self.add_error(field, STEP_PATH.sub(lambda match: f"Step {int(match[1]) + 1}, ", message))


class BaseModelForm(forms.Form):
    """A model to start from: the id of a hub model or a directory on this machine."""

    name = forms.CharField(max_length=120, help_text="How it is called here.")
    base = forms.CharField(
        max_length=500,
        label="Model",
        help_text="A directory on this machine, or the id of a hub model such as owner/name.",
    )


class PromotionForm(forms.Form):
    """Why a model version becomes the user model; without a decided evaluation it is confirmed explicitly."""

    reason = forms.CharField(
        max_length=2000, widget=forms.Textarea(attrs={"rows": 3}), help_text="Kept with the promotion."
    )
    confirm = forms.BooleanField(
        required=False, label="Promote it although no evaluation has decided that it is better."
    )

    def __init__(self, *args: Any, decided: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if decided:
            del self.fields["confirm"]
        else:
            self.fields["confirm"].required = True
            self.fields["confirm"].error_messages = {
                "required": "No evaluation has decided for this version: tick the box to promote it anyway."
            }


class ReasonForm(forms.Form):
    """Why something is undone."""

    reason = forms.CharField(max_length=2000)


class ResponsesForm(forms.Form):
    """How many new prompts a model version answers, to be rated."""

    count = forms.IntegerField(min_value=1, max_value=1000, initial=40)


class EvaluationForm(forms.Form):
    """How many held-out prompts both versions answer."""

    prompts = forms.IntegerField(min_value=1, max_value=10_000, initial=EVALUATION_PROMPTS)
