"""The admin's form of what raters are asked: settings, and rows for dimensions and questions.

Forms check shapes and words; rating.services.asking decides what fits together.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, pgettext_lazy

from rating.models import Dimension, Project, Question
from rating.presets import PLAIN, PRESETS
from rating.services.asking import HIGHEST, MAX_DIMENSIONS, MAX_QUESTIONS
from rating.services.items import MAX_COMPLETIONS

SETTINGS = ("comparison", "asked", "allow_tie", "allow_both_bad", "allow_none", "pair_safety", "pick_best")
MORE_SETTINGS = ("rate_each", "scale_min", "scale_max", "ask_intent", "judge_whole", "rationale")
LAST_SETTINGS = ("allow_rewrite", "mark_spans", "span_reasons", "undo_seconds", "preset")


class LinesField(forms.CharField):
    """A list of texts, one on each line."""

    def __init__(self, **kwargs: Any) -> None:
        rows = kwargs.pop("rows", 3)
        widget = forms.Textarea({"rows": rows})
        super().__init__(required=False, max_length=10_000, widget=widget, initial=[], **kwargs)

    def to_python(self, value: Any) -> Any:
        """The lines that are not empty."""
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]

    def run_validators(self, value: Any) -> None:
        """The text as a whole, as the validators of a text expect it."""
        super().run_validators("\n".join(value))

    def prepare_value(self, value: Any) -> Any:
        """The list as lines; what was typed as it is."""
        return "\n".join(value) if isinstance(value, list) else value


class AskingForm(forms.ModelForm):
    """What is asked of every item."""

    span_reasons = LinesField(
        label=_("Reasons for a mark"), help_text=_("One on each line; without any, raters write their own.")
    )

    undo_seconds = forms.IntegerField(
        min_value=0,
        max_value=604_800,
        label=_("Seconds to take an answer back"),
        help_text=_("600 is ten minutes; 0 is never."),
    )

    class Meta:
        model = Project
        fields = (*SETTINGS, *MORE_SETTINGS, *LAST_SETTINGS)
        widgets = {"preset": forms.HiddenInput}
        labels = {
            "comparison": _("Comparison"),
            "asked": _("Raters pick"),
            "allow_tie": _("Allow “equally good”"),
            "allow_both_bad": _("Allow “both bad”"),
            "allow_none": _("Allow “none is good enough”"),
            "pair_safety": _("Ask which of the two are safe"),
            "pick_best": _("Of three or more, pick one instead of ranking all"),
            "rate_each": _("Rate each response in every dimension as well"),
            "scale_min": _("Lowest rating"),
            "scale_max": _("Highest rating"),
            "ask_intent": _("Ask first what the attack wants to reach"),
            "judge_whole": _("Judge the whole conversation, not its last turn alone"),
            "rationale": _("A reason in words"),
            "allow_rewrite": _("Let raters write a better response"),
            "mark_spans": _("Let raters mark passages as good or bad"),
        }
        help_texts = {
            "comparison": "",
            "allow_both_bad": _("Raters may call both responses bad."),
            "rationale": "",
            "asked": _("Where the more harmful one is picked, the other is stored as preferred."),
            "allow_tie": _("Seven points always have a tie in the middle, eight points never have one."),
            "pair_safety": _("After the choice: chosen safe and the other not, both safe, both unsafe."),
            "allow_none": _("For two responses or more."),
            "pick_best": _("The others share the second place."),
            "rate_each": _("For two responses or more. A single response is always rated."),
            "scale_min": _("For a single response where there are no dimensions."),
            "scale_max": format_lazy(
                _("At most {highest}, so that every rating is one key."), highest=HIGHEST
            ),
            "judge_whole": _("Said beside the conversation."),
            "allow_rewrite": _("It counts as better than the responses shown, and as an example."),
            "mark_spans": "",
            "ask_intent": "",
        }

    def __init__(self, data: QueryDict | None = None, *, locked: bool = False, **kwargs: Any) -> None:
        super().__init__(data, auto_id="asking_%s", **kwargs)
        if locked:
            for name in ("scale_min", "scale_max"):
                self.fields[name].disabled = True
                self.fields[name].help_text = _("Fixed: there are ratings on this scale.")

    def clean_preset(self) -> str:
        """The preset that the form was filled from, if it is one."""
        preset: str = self.cleaned_data["preset"]
        return preset if preset in PRESETS else ""

    def _post_clean(self) -> None:
        """Leave the instance as it is: the service writes."""


class RowForm(forms.Form):
    """A dimension or a question; an empty one is left out."""

    key = forms.SlugField(max_length=40, required=False, widget=forms.HiddenInput)
    low_label = forms.CharField(max_length=60, required=False, label=_("Words at the low end"))
    high_label = forms.CharField(max_length=60, required=False, label=_("Words at the high end"))

    def row(self) -> dict[str, Any]:
        """What the service takes."""
        return {key: value for key, value in self.cleaned_data.items() if key not in ("DELETE", "ORDER")}


class DimensionForm(RowForm):
    """What each response is rated for."""

    name = forms.CharField(max_length=80, label=_("Rated for"))
    style = forms.ChoiceField(choices=Dimension.Style.choices, initial="numbers", label=_("Looks like"))
    low = forms.IntegerField(
        min_value=0,
        max_value=HIGHEST - 1,
        initial=1,
        label=pgettext_lazy("lowest number of a scale", "From"),
    )
    high = forms.IntegerField(
        min_value=1, max_value=HIGHEST, initial=5, label=pgettext_lazy("highest number of a scale", "To")
    )
    required = forms.BooleanField(required=False, initial=True, label=_("Required"))

    field_order = ("key", "name", "style", "low", "high", "low_label", "high_label", "required")


class QuestionForm(RowForm):
    """A question about the item or about each response."""

    text = forms.CharField(max_length=300, label=_("Question"))
    kind = forms.ChoiceField(choices=Question.Kind.choices, initial="yes_no", label=_("Answered by"))
    scope = forms.ChoiceField(
        choices=Question.Scope.choices,
        initial="item",
        label=pgettext_lazy("what a question is about", "About"),
    )
    options = LinesField(label=_("Options"), help_text=_("One on each line, for choices and tags."))
    required = forms.BooleanField(required=False, label=_("Required"))

    field_order = ("key", "text", "kind", "scope", "options", "low_label", "high_label", "required")


DimensionFormSet = forms.formset_factory(
    DimensionForm, extra=0, can_delete=True, can_order=True, max_num=MAX_DIMENSIONS, validate_max=True
)
QuestionFormSet = forms.formset_factory(
    QuestionForm, extra=0, can_delete=True, can_order=True, max_num=MAX_QUESTIONS, validate_max=True
)


class PreviewForm(forms.Form):
    """How many responses the look at the desk has."""

    responses = forms.TypedChoiceField(
        coerce=int,
        choices=lambda: [(str(n), _count(n)) for n in range(1, MAX_COMPLETIONS + 1)],
        label=_("Show an item with"),
        required=False,
    )


class WaysOfAsking:
    """The whole form: settings, dimensions, questions, and the look at it."""

    def __init__(
        self, project: Project, *, data: QueryDict | None = None, preset: str = "", locked: bool = False
    ) -> None:
        self.project = project
        filled = PRESETS.get(preset)
        settings: dict[str, Any] = {**PLAIN, **filled.settings, "preset": preset} if filled else {}
        if filled:
            filled = filled.translated()
            dimensions, questions = list(filled.dimensions), list(filled.questions)
        else:
            dimensions = [_row_of(one, DimensionForm) for one in project.dimensions.in_force()]
            questions = [_row_of(one, QuestionForm) for one in project.questions.in_force()]
        kept = PRESETS.get(project.preset)
        shown = filled.responses if filled else kept.responses if kept else 2
        self.settings = AskingForm(data, instance=project, initial=settings, locked=locked)
        # What was sent stands for itself: compared with what is stored, an unchanged row would seem empty.
        self.dimensions = DimensionFormSet(data, prefix="dimensions", initial=None if data else dimensions)
        self.questions = QuestionFormSet(data, prefix="questions", initial=None if data else questions)
        self.look = PreviewForm(data, auto_id="look_%s", initial={"responses": shown})

    def is_valid(self) -> bool:
        """Whether every part is; all parts are looked at, so that all errors are shown at once."""
        valid = [part.is_valid() for part in (self.settings, self.dimensions, self.questions)]
        return all(valid)

    @property
    def values(self) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        """What the service takes: settings, rows of dimensions, rows of questions; call it when valid."""
        return self.settings.cleaned_data, _rows(self.dimensions), _rows(self.questions)

    @property
    def responses(self) -> int:
        """How many responses the look at it has."""
        sent = self.look.is_bound and self.look.is_valid()
        given: int | None = self.look.cleaned_data.get("responses") if sent else None
        return given or int(self.look.initial["responses"])

    def refuse(self, field: str, message: str) -> None:
        """Show a service's refusal at its field: of the settings, or of a row as in `questions.0.text`."""
        part, _, rest = field.partition(".")
        place, _, name = rest.partition(".")
        if part in ("dimensions", "questions") and name:
            form = _kept(self.dimensions if part == "dimensions" else self.questions)[int(place)]
            form.add_error(name if name in form.fields else None, message)
        else:
            self.settings.add_error(field if field in self.settings.fields else None, message)


def add_row(data: QueryDict, name: str) -> QueryDict:
    """The data that was sent, with one more empty row for dimensions or questions."""
    copy = data.copy()
    total = copy.get(f"{name}-TOTAL_FORMS", "0")
    counted = total.isdecimal() and len(total) < 4 and int(total) < MAX_QUESTIONS
    if name in ("dimensions", "questions") and counted:
        copy[f"{name}-TOTAL_FORMS"] = str(int(total) + 1)
        first = DimensionForm() if name == "dimensions" else QuestionForm()
        for field, widget in first.fields.items():
            if widget.initial:
                copy[f"{name}-{total}-{field}"] = "on" if widget.initial is True else str(widget.initial)
    return copy


def _count(number: int) -> str:
    return ngettext("%(number)d response", "%(number)d responses", number) % {"number": number}


def _row_of(one: Dimension | Question, form: type[RowForm]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in form.base_fields}


def _kept(formset: Any) -> list[Any]:
    """The filled rows in the order wanted, without those that are taken out."""
    forms_kept = [form for form in formset.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
    places = {id(form): place for place, form in enumerate(formset.forms)}
    return sorted(forms_kept, key=lambda f: (f.cleaned_data.get("ORDER") or places[id(f)] + 1, places[id(f)]))


def _rows(formset: Any) -> list[dict[str, Any]]:
    return [form.row() for form in _kept(formset)]
