"""What an account fills in for a new API token."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from rating.models import ApiToken, Project, User

DAYS = (7, 30, 90, 366)


def day_choices() -> list[tuple[int, str]]:
    """How long a token may work."""
    return [(days, ngettext("%(days)s day", "%(days)s days", days) % {"days": days}) for days in DAYS]


class TokenForm(forms.Form):
    """A name, what the token is good for, where, and for how long."""

    name = forms.CharField(
        max_length=80, label=_("Name"), help_text=_("What uses it, such as “nightly import”.")
    )
    scopes = forms.MultipleChoiceField(
        choices=ApiToken.Scope.choices, label=_("What it may do"), widget=forms.CheckboxSelectMultiple
    )
    project = forms.ModelChoiceField(
        Project.objects.none(), required=False, label=_("Project"), empty_label=_("All of my projects")
    )
    days = forms.TypedChoiceField(
        coerce=int,
        label=_("Works for"),
        initial=90,
        choices=day_choices,
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        project = self.fields["project"]
        assert isinstance(project, forms.ModelChoiceField)
        project.queryset = Project.objects.visible_to(user)
