"""What an admin fills in to import a file: the file first, then what is in it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from rating.services.imports import Columns
from rating.services.imports.formats import KNOWN
from rating.services.imports.formats.columns import NAME as COLUMNS

ROLES = {
    "prompt": _("Prompt"),
    "chosen": _("Better response"),
    "rejected": _("Worse response"),
    "label": _("Label"),
    "model": _("Model that wrote the response"),
    "rater": _("Who judged"),
}


class UploadForm(forms.Form):
    """A file to be looked at."""

    file = forms.FileField(
        label=_("File"), help_text=_("JSON Lines, JSON, CSV or Parquet, plain or packed with gzip.")
    )


class StartForm(forms.Form):
    """What the file's rows are, and how they are taken."""

    format = forms.ChoiceField(label=_("Format of the rows"))
    keep_good = forms.BooleanField(
        label=_("Take the good rows although others have faults"),
        help_text=_("The bad ones come back as a file, each with its line and the reason."),
        required=False,
    )
    dry_run = forms.BooleanField(
        label=_("Only check the file"),
        help_text=_("Reports what would happen and keeps nothing."),
        required=False,
    )

    def __init__(self, names: list[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        by_hand = (COLUMNS, _("None of these: name the columns by hand"))
        self.fields["format"].choices = [*((one.name, one.label) for one in KNOWN), by_hand]  # type: ignore[attr-defined]
        none = ("", _("(none)"))
        for role, label in ROLES.items():
            choices = [none, *((name, name) for name in names)]
            self.fields[role] = forms.ChoiceField(label=label, choices=choices, required=False)
        self.fields["responses"] = forms.MultipleChoiceField(
            label=_("Responses to be rated"),
            choices=[(name, name) for name in names],
            widget=forms.CheckboxSelectMultiple,
            required=False,
        )
        self.columns: Columns | None = None

    @property
    def column_fields(self) -> list[forms.BoundField]:
        """The fields that say which column is what."""
        return [
            self[name] for name in ("prompt", "responses", "chosen", "rejected", "label", "model", "rater")
        ]

    @property
    def other_fields(self) -> list[forms.BoundField]:
        """How the rows are taken."""
        return [self["keep_good"], self["dry_run"]]

    def clean(self) -> dict[str, Any]:
        """Put the columns together when they are named by hand."""
        data = self.cleaned_data
        if data.get("format") == COLUMNS and not self.errors:
            columns = Columns(responses=tuple(data["responses"]), **{role: data[role] for role in ROLES})
            try:
                columns.check()
            except ValueError as error:
                field, _colon, words = str(error).partition(": ")
                field = "responses" if field == "response" else field
                self.add_error(field if field in self.fields else None, words or str(error))
            else:
                self.columns = columns
        return data
