"""What the operator fills in. Forms check shapes and words; the services decide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

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

    snapshot = forms.ChoiceField(label=_("Snapshot"), help_text=_("The judgments to learn from."))
    policy = forms.ModelChoiceField(
        ModelVersion.objects.none(),
        label=_("Start from"),
        empty_label=None,
        help_text=_("The model version to train. The user model, unless you choose another."),
        error_messages={"required": _("Choose the model version to start from. Is there a base model yet?")},
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
            (FREEZE, gettext("Freeze a new one now")),
            *(
                (
                    key,
                    gettext("%(number)s, frozen %(time)s UTC")
                    % {"number": s.number, "time": f"{s.created_at:%Y-%m-%d %H:%M}"},
                )
                for key, s in self.snapshots.items()
            ),
        ]
        policy.queryset = ModelVersion.objects.filter(project=project, kind=ModelVersion.Kind.POLICY)

    def clean_snapshot(self) -> DatasetSnapshot | None:
        """The chosen snapshot; None when a new one is to be frozen."""
        return self.snapshots.get(self.cleaned_data["snapshot"])


class TriggerForm(forms.Form):
    """When runs start by themselves, and which. The service checks what it says."""

    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("How it is called on the overview."))
    enabled = forms.BooleanField(
        label=_("Enabled"),
        required=False,
        initial=True,
        help_text=_("A trigger that is off keeps counting and does not fire."),
    )
    every_judgments = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000_000,
        label=_("Every so many new judgments"),
        help_text=_("Counted from the last time it fired. Empty: the schedule alone decides."),
    )
    schedule = forms.CharField(
        required=False,
        max_length=100,
        label=_("On a schedule"),
        widget=forms.TextInput(attrs={"dir": "ltr"}),
        help_text=_(
            "Cron fields in UTC: minute, hour, day, month, weekday. 0 3 * * * is every day at 03:00."
        ),
    )
    plan = forms.CharField(
        label=_("Plan"),
        max_length=100_000,
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false", "class": "code", "dir": "ltr"}),
        help_text=_(
            "A JSON list of steps: each names a recipe and the settings that differ from its defaults."
        ),
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
            raise forms.ValidationError(
                gettext("This is not JSON: %(error)s. See the example below.") % {"error": error}
            ) from None

    def add_problems(self, problems: Iterable[tuple[str, str]]) -> None:
        """Show what the service refused at the fields it names."""
        for field, message in problems:
            self.add_error(field, name_step(message))


def name_step(message: str) -> str:
    """A problem of a plan with its step's number in place of `plan[0].`, for people who count from one."""
    match = STEP_PATH.match(message)
    if match is None:
        return message
    words = {"number": int(match[1]) + 1, "problem": message[match.end() :]}
    # Translators: as in "Step 2, learning_rate: should be greater than 0".
    return gettext("Step %(number)s, %(problem)s") % words


class BaseModelForm(forms.Form):
    """A model to start from: the id of a hub model or a directory on this machine."""

    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("How it is called here."))
    base = forms.CharField(
        max_length=500,
        label=_("Model"),
        widget=forms.TextInput(attrs={"dir": "ltr"}),
        help_text=_("A directory on this machine, or the id of a hub model such as owner/name."),
    )


class PromotionForm(forms.Form):
    """Why a model version becomes the user model; without a decided evaluation it is confirmed explicitly."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Kept with the promotion."),
    )
    confirm = forms.BooleanField(
        required=False, label=_("Promote it although no evaluation has decided that it is better.")
    )

    def __init__(self, *args: Any, decided: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if decided:
            del self.fields["confirm"]
        else:
            self.fields["confirm"].required = True
            self.fields["confirm"].error_messages = {
                "required": _(
                    "No evaluation has decided for this version: tick the box to promote it anyway."
                )
            }


class ReasonForm(forms.Form):
    """Why something is undone."""

    reason = forms.CharField(label=_("Reason"), max_length=2000)


class ResponsesForm(forms.Form):
    """How many new prompts a model version answers, to be rated."""

    count = forms.IntegerField(label=_("Count"), min_value=1, max_value=1000, initial=40)


class EvaluationForm(forms.Form):
    """How many held-out prompts both versions answer."""

    prompts = forms.IntegerField(
        label=_("Prompts"), min_value=1, max_value=10_000, initial=EVALUATION_PROMPTS
    )
