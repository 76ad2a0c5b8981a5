"""The form in which a snapshot's query is asked. It reads words; `read_query` decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from rating.models import Guidelines, Project, Rater
from rating.services.answers import FLAGS
from training.services.queries import QueryError, SnapshotQuery, read_query

Words = list[tuple[str, str | Promise]]
ROWS: Words = [
    ("votes", _("A row for each vote")),
    ("majority", _("A row by the majority of the votes")),
    ("soft", _("A row with a soft label: the share of the votes")),
]
WEIGHTS: Words = [
    ("equal", _("All votes weigh the same")),
    ("reliability", _("By each rater's agreement with others")),
]
TIES: Words = [("drop", _("Left out")), ("keep", _("Kept: a row each way, each of half the weight"))]
MARGINS: Words = [
    ("none", _("No margin")),
    ("small", _("Small: 1, 2/3, 1/3, 0")),
    ("large", _("Large: 3, 2, 1, 0")),
    ("points", _("Points from the middle, for seven or eight points")),
]
IMPORTED: Words = [
    ("all", _("Given here or imported")),
    ("without", _("Given here alone")),
    ("only", _("Imported alone")),
]
HOW = ("rows", "weights", "ties", "margin")
WHICH = ("since", "until", "imported", "min_raters", "min_agreement", "max_per_rater")
LISTS = ("raters", "without_raters", "with_flags", "without_flags", "guidelines")


class QueryForm(forms.Form):
    """Which judgments, and how they become rows.

    Attributes:
        query: what it begins with; what was asked once the form is valid.
    """

    rows = forms.ChoiceField(label=_("Rows"), choices=ROWS, required=False)
    weights = forms.ChoiceField(label=_("Votes"), choices=WEIGHTS, required=False)
    ties = forms.ChoiceField(label=_("Ties"), choices=TIES, required=False)
    margin = forms.ChoiceField(
        label=_("Margin"), choices=MARGINS, required=False, help_text=_("What “how much better” is worth.")
    )
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(label=_("Until"), required=False, widget=forms.DateInput({"type": "date"}))
    imported = forms.ChoiceField(label=_("Origin"), choices=IMPORTED, required=False)
    min_raters = forms.IntegerField(
        label=_("Raters per item, at least"), required=False, min_value=1, max_value=1000
    )
    min_agreement = forms.IntegerField(
        label=_("Agreement on an item, at least per cent"),
        required=False,
        min_value=0,
        max_value=100,
        help_text=_("The share of its raters who said the same."),
    )
    max_per_rater = forms.IntegerField(
        label=_("Judgments of one rater, at most"),
        required=False,
        min_value=1,
        max_value=1_000_000_000,
        help_text=_("Drawn by lot, always the same ones."),
    )
    raters = forms.MultipleChoiceField(
        label=_("Only these raters"), required=False, help_text=_("None chosen: all.")
    )
    without_raters = forms.MultipleChoiceField(label=_("Without these raters"), required=False)
    with_flags = forms.MultipleChoiceField(
        label=_("Only with one of these flags"), required=False, choices=list(FLAGS.items())
    )
    without_flags = forms.MultipleChoiceField(
        label=_("Without these flags"), required=False, choices=list(FLAGS.items())
    )
    guidelines = forms.MultipleChoiceField(
        label=_("Only under these guidelines"), required=False, help_text=_("None chosen: all versions.")
    )

    def __init__(self, project: Project, data: Any = None, *, query: SnapshotQuery | None = None) -> None:
        self.project, self.query = project, query or SnapshotQuery()
        super().__init__(data, initial=initial_of(self.query))
        names = Rater.objects.filter(project=project, judgments__isnull=False).distinct()
        raters = [(name, name) for name in names.order_by("pseudonym").values_list("pseudonym", flat=True)]
        numbers = Guidelines.objects.filter(project=project).order_by("number")
        versions = [(number, str(number)) for number in numbers.values_list("number", flat=True)]
        for name, choices in (("raters", raters), ("without_raters", raters), ("guidelines", versions)):
            field = self.fields[name]
            assert isinstance(field, forms.MultipleChoiceField)
            field.choices = choices

    def clean(self) -> dict[str, Any]:
        data = {name: value for name, value in self.cleaned_data.items() if value not in (None, "", [])}
        if "min_agreement" in data:
            data["min_agreement"] /= 100
        if not self.errors:
            try:
                self.query = read_query(self.project, data)
            except QueryError as error:
                for name, message in error.problems:
                    self.add_error(name if name in self.fields else None, message)
        return data

    @property
    def how(self) -> Iterator[forms.BoundField]:
        """The fields of how judgments become rows."""
        return (self[name] for name in HOW)

    @property
    def which(self) -> Iterator[forms.BoundField]:
        """The fields of which judgments count."""
        return (self[name] for name in WHICH)

    @property
    def lists(self) -> Iterator[forms.BoundField]:
        """The fields from which several are chosen."""
        return (self[name] for name in LISTS if self.fields[name].choices)  # type: ignore[attr-defined]

    @property
    def lists_open(self) -> bool:
        """Whether something was chosen among them, or is wrong there."""
        return any(self[name].value() or self[name].errors for name in LISTS)


def initial_of(query: SnapshotQuery) -> dict[str, Any]:
    """The form's values that ask the query."""
    values = query.model_dump(exclude={"up_to", "prompts"})
    values["min_agreement"] = round(values["min_agreement"] * 100) or None
    values["min_raters"] = values["min_raters"] if values["min_raters"] > 1 else None
    return values | {name: list(values[name]) for name in LISTS}


def tell_query(query: SnapshotQuery) -> list[tuple[str | Promise, str]]:
    """What was chosen and is not the default, as (label, words)."""
    words = {name: dict(options) for name, options in zip(HOW, (ROWS, WEIGHTS, TIES, MARGINS), strict=True)}
    words["imported"] = dict(IMPORTED)
    told: list[tuple[str | Promise, str]] = []
    for name, value in query.choices.items():
        label = QueryForm.base_fields[name].label or name
        if name in words:
            shown = str(words[name][value])
        elif name in ("with_flags", "without_flags"):
            shown = ", ".join(str(FLAGS[flag]) for flag in value)
        elif isinstance(value, list):
            shown = ", ".join(map(str, value))
        else:
            shown = f"{value:.0%}" if name == "min_agreement" else str(value)
        told.append((label, shown))
    return told
