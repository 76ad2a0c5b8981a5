"""What people fill in on the rating side. Forms check shapes and words; the services decide."""

from __future__ import annotations

import math
from typing import Any

from django import forms

from rating.models import Guidelines, Project, Role, User
from rating.services.projects import MAX_GUIDELINES

SETTINGS_FIELDS = (
    "name",
    "description",
    "overlap",
    "queue_strategy",
    "lease_seconds",
    "eval_percent",
)


class ProjectForm(forms.ModelForm):
    """The settings of a project; what can no longer be changed is shown and disabled."""

    class Meta:
        model = Project
        fields = SETTINGS_FIELDS
        labels = {
            "overlap": "Raters for each item",
            "queue_strategy": "Order of the queue",
            "lease_seconds": "Seconds to keep an item",
            "eval_percent": "Held out for evaluation, in per cent",
        }
        help_texts = {
            "name": "",
            "description": "One or two sentences; everybody in the project sees them.",
            "overlap": "How many raters judge each item. Holds for items made from now on.",
            "queue_strategy": "Which item comes next. Holds for items made from now on.",
            "lease_seconds": "Then the item is offered to somebody else. 1800 is half an hour.",
            "eval_percent": "Chosen by a hash of the prompt's text; fixed with the first prompt.",
        }
        widgets = {"description": forms.Textarea({"rows": 3})}

    def __init__(self, *args: Any, locked: frozenset[str] = frozenset(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in locked & self.fields.keys():
            self.fields[name].disabled = True
            self.fields[name].help_text = "Fixed: what is stored already depends on it."


class NewProjectForm(ProjectForm):
    """A new project: the settings, its address and its first guidelines."""

    slug = forms.SlugField(
        max_length=60,
        required=False,
        label="Address",
        help_text="Small letters, digits and hyphens; made from the name when left empty.",
    )
    guidelines = forms.CharField(
        required=False,
        max_length=MAX_GUIDELINES,
        widget=forms.Textarea({"rows": 8}),
        help_text="What raters should prefer, in Markdown. Later versions are published in the settings.",
    )

    field_order = ("name", "slug", "description", "guidelines")


class GuidelinesForm(forms.ModelForm):
    """The next version of the guidelines."""

    class Meta:
        model = Guidelines
        fields = ("text",)
        labels = {"text": "Guidelines"}
        widgets = {"text": forms.Textarea({"rows": 14, "maxlength": MAX_GUIDELINES})}


class MemberForm(forms.Form):
    """A role for an account that exists."""

    username = forms.CharField(
        max_length=150, widget=forms.TextInput({"autocomplete": "off", "autocapitalize": "none"})
    )
    role = forms.ChoiceField(choices=Role.choices)

    def clean_username(self) -> User:
        """The active account of this name."""
        username = self.cleaned_data["username"]
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            raise forms.ValidationError(f"No account is called “{username}”; capitals count.")
        return user


class SkipForm(forms.Form):
    """Why an item is skipped, if the rater says so."""

    REASONS = (
        ("", "No reason given"),
        ("unclear", "The prompt or a response makes no sense"),
        ("knowledge", "I do not know enough about this"),
        ("language", "I do not read this language well"),
        ("uncomfortable", "I would rather not read this"),
    )
    reason = forms.ChoiceField(choices=REASONS, required=False)


def clean_seconds(text: str) -> float | None:
    """The browser's count of seconds, or None when it is no number: it is only ever a hint."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None
