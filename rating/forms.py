"""What people fill in on the rating side. Forms check shapes and words; the services decide."""

from __future__ import annotations

import math
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

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
            "name": _("Name"),
            "description": _("Description"),
            "overlap": _("Raters for each item"),
            "queue_strategy": _("Order of the queue"),
            "lease_seconds": _("Seconds to keep an item"),
            "eval_percent": _("Held out for evaluation, in per cent"),
        }
        help_texts = {
            "name": "",
            "description": _("One or two sentences; everybody in the project sees them."),
            "overlap": _("How many raters judge each item. Holds for items made from now on."),
            "queue_strategy": _("Which item comes next. Holds for items made from now on."),
            "lease_seconds": _("Then the item is offered to somebody else. 1800 is half an hour."),
            "eval_percent": _("Chosen by a hash of the prompt's text; fixed with the first prompt."),
        }
        widgets = {"description": forms.Textarea({"rows": 3})}

    def __init__(self, *args: Any, locked: frozenset[str] = frozenset(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in locked & self.fields.keys():
            self.fields[name].disabled = True
            self.fields[name].help_text = _("Fixed: what is stored already depends on it.")


class NewProjectForm(ProjectForm):
    """A new project: the settings, its address and its first guidelines."""

    slug = forms.SlugField(
        max_length=60,
        required=False,
        label=_("Address"),
        help_text=_("Small letters, digits and hyphens; made from the name when left empty."),
    )
    guidelines = forms.CharField(
        required=False,
        max_length=MAX_GUIDELINES,
        label=_("Guidelines"),
        widget=forms.Textarea({"rows": 8}),
        help_text=_("What raters should prefer, in Markdown. Later versions are published in the settings."),
    )

    field_order = ("name", "slug", "description", "guidelines")


class GuidelinesForm(forms.ModelForm):
    """The next version of the guidelines."""

    class Meta:
        model = Guidelines
        fields = ("text",)
        labels = {"text": _("Guidelines")}
        help_texts = {"text": _("Markdown.")}
        widgets = {"text": forms.Textarea({"rows": 14, "maxlength": MAX_GUIDELINES})}


class MemberForm(forms.Form):
    """A role for an account that exists."""

    username = forms.CharField(
        max_length=150,
        label=_("Username"),
        widget=forms.TextInput({"autocomplete": "off", "autocapitalize": "none"}),
    )
    role = forms.ChoiceField(choices=Role.choices, label=_("Role"))

    def clean_username(self) -> User:
        """The active account of this name."""
        username = self.cleaned_data["username"]
        user = User.objects.filter(username=username, is_active=True).first()
        if user is None:
            words = _("No account is called “%(name)s”; capitals count.")
            raise forms.ValidationError(words, params={"name": username})
        return user


class SkipForm(forms.Form):
    """Why an item is skipped, if the rater says so."""

    REASONS = (
        ("", _("No reason given")),
        ("unclear", _("The prompt or a response makes no sense")),
        ("knowledge", _("I do not know enough about this")),
        ("language", _("I do not read this language well")),
        ("uncomfortable", _("I would rather not read this")),
    )
    reason = forms.ChoiceField(choices=REASONS, required=False)


def clean_seconds(text: str) -> float | None:
    """The browser's count of seconds, or None when it is no number: it is only ever a hint."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None
