"""What the desk asks, ready for the page: groups of controls, each with its key, its words and its field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from rating.models import Dimension, Judgment, Project, Question
from rating.services.points import STRENGTHS, shown_points, takes_tie
from rating.services.responses import HIGHEST, MAX_ANSWER, field_name

YES_NO = (("yes", gettext_lazy("Yes")), ("no", gettext_lazy("No")))
STRENGTH_WORDS = {
    Judgment.Strength.SIGNIFICANTLY: gettext_lazy("Significantly better"),
    Judgment.Strength.BETTER: gettext_lazy("Better"),
    Judgment.Strength.SLIGHTLY: gettext_lazy("Slightly better"),
    Judgment.Strength.NEGLIGIBLY: gettext_lazy("Negligibly better or unsure"),
}
HARMFUL_WORDS = {
    Judgment.Strength.SIGNIFICANTLY: gettext_lazy("Significantly more harmful"),
    Judgment.Strength.BETTER: gettext_lazy("More harmful"),
    Judgment.Strength.SLIGHTLY: gettext_lazy("Slightly more harmful"),
    Judgment.Strength.NEGLIGIBLY: gettext_lazy("Negligibly more harmful or unsure"),
}
POINT_WORDS = {
    Judgment.Strength.SIGNIFICANTLY: gettext_lazy("Response %(number)s: significantly better"),
    Judgment.Strength.BETTER: gettext_lazy("Response %(number)s: better"),
    Judgment.Strength.SLIGHTLY: gettext_lazy("Response %(number)s: slightly better"),
    Judgment.Strength.NEGLIGIBLY: gettext_lazy("Response %(number)s: negligibly better or unsure"),
}
HARMFUL_POINT_WORDS = {
    Judgment.Strength.SIGNIFICANTLY: gettext_lazy("Response %(number)s: significantly more harmful"),
    Judgment.Strength.BETTER: gettext_lazy("Response %(number)s: more harmful"),
    Judgment.Strength.SLIGHTLY: gettext_lazy("Response %(number)s: slightly more harmful"),
    Judgment.Strength.NEGLIGIBLY: gettext_lazy("Response %(number)s: negligibly more harmful or unsure"),
}
SHORT_WORDS = {
    Judgment.Strength.SIGNIFICANTLY: gettext_lazy("significantly"),
    Judgment.Strength.BETTER: gettext_lazy("clearly"),
    Judgment.Strength.SLIGHTLY: gettext_lazy("slightly"),
    Judgment.Strength.NEGLIGIBLY: gettext_lazy("negligibly"),
}
SAFETY_WORDS = {
    Judgment.Safety.CHOSEN_SAFE: gettext_lazy("The chosen one is safe, the other is not"),
    Judgment.Safety.BOTH_SAFE: gettext_lazy("Both are safe"),
    Judgment.Safety.BOTH_UNSAFE: gettext_lazy("Both are unsafe"),
}
NONE_GOOD = gettext_lazy("None is good enough")


@dataclass(frozen=True)
class Option:
    """One control: what it sends, the key that presses it, its words; `icon` or `short` are shown instead."""

    value: str
    key: str
    words: str
    icon: str = ""
    short: str = ""


@dataclass(frozen=True)
class Group:
    """A question with its controls.

    `look` is buttons, numbers (a row with words at both ends), points, tags or text.
    """

    field: forms.BoundField
    legend: str
    options: tuple[Option, ...] = ()
    look: str = "buttons"
    low: str = ""
    high: str = ""
    required: bool = True

    @property
    def points(self) -> int:
        """How many points a row of points has."""
        return sum(1 for option in self.options if option.short)

    @property
    def values(self) -> tuple[str, ...]:
        """What is filled in, as the controls send it."""
        given = self.field.value()
        values = given if isinstance(given, list | tuple) else [given]
        return tuple(str(value) for value in values if value is not None)


def numbers(low: int, high: int) -> tuple[Option, ...]:
    """A digit for each number."""
    return tuple(Option(str(number), str(number), "") for number in range(low, high + 1))


def question_field(question: Question) -> forms.Field:
    """The field that takes the answer. Nothing is required here: the service says what is missing."""
    kind = question.kind
    if kind == Question.Kind.SCALE:
        return forms.IntegerField(required=False)
    if kind == Question.Kind.TEXT:
        return forms.CharField(required=False, max_length=MAX_ANSWER)
    options = [(option, option) for option in question.options]
    if kind == Question.Kind.TAGS:
        return forms.MultipleChoiceField(required=False, choices=options)
    return forms.ChoiceField(required=False, choices=YES_NO if kind == Question.Kind.YES_NO else options)


def question_group(form: forms.Form, question: Question, number: int | None = None) -> Group:
    """A question about the item, or about the response with this number."""
    kind, bound = question.kind, form[field_name("answer", question.key, number)]
    words: dict[str, Any] = {
        "low": question.low_label,
        "high": question.high_label,
        "required": question.required,
    }
    if kind == Question.Kind.YES_NO:
        return Group(
            bound, question.text, (Option("yes", "y", _("Yes")), Option("no", "n", _("No"))), **words
        )
    if kind == Question.Kind.SCALE:
        return Group(bound, question.text, numbers(0, HIGHEST), "numbers", **words)
    if kind == Question.Kind.TEXT:
        return Group(bound, question.text, look="text", **words)
    numbered = enumerate(question.options, start=1)
    options = tuple(Option(option, str(key) if key < 10 else "", option) for key, option in numbered)
    return Group(bound, question.text, options, "tags" if kind == Question.Kind.TAGS else "buttons", **words)


def dimension_group(form: forms.Form, dimension: Dimension, number: int | None = None) -> Group:
    """The scale of a dimension, for the only response or for the one with this number."""
    bound = form[field_name("rating", dimension.key, number)]
    words: dict[str, Any] = {
        "low": dimension.low_label,
        "high": dimension.high_label,
        "required": dimension.required,
    }
    if dimension.style == Dimension.Style.THUMBS:
        thumbs = (
            Option("1", "1", dimension.high_label or _("Thumb up"), "icons/thumbs-up.svg"),
            Option("0", "0", dimension.low_label or _("Thumb down"), "icons/thumbs-down.svg"),
        )
        return Group(bound, dimension.name, thumbs, required=dimension.required)
    return Group(bound, dimension.name, numbers(dimension.low, dimension.high), "numbers", **words)


def heading(project: Project, count: int) -> str:
    """What is asked of an item with so many responses."""
    harmful = project.asked == Project.Asked.HARMFUL
    if count == 1:
        return _("Rate the response")
    if count == 2:
        return _("Which response is more harmful?") if harmful else _("Which response is better?")
    if project.pick_best:
        return _("Pick the most harmful response") if harmful else _("Pick the best response")
    return _("Rank the responses, the most harmful first") if harmful else _("Rank the responses")


def choice_group(form: forms.Form, project: Project) -> Group:
    """Which of two responses is better: buttons, or a row of points."""
    points = shown_points(project.comparison)
    extra = []
    if project.allow_both_bad:
        extra.append(Option("both_bad", "9" if points else "4", _("Both bad")))
    if project.allow_none:
        extra.append(Option("none", "0", str(NONE_GOOD)))
    legend = heading(project, 2)
    if points:
        row = [_point(project, key, *point) for key, point in enumerate(points, start=1)]
        ends = (_response(1), _response(2))
        return Group(form["choice"], legend, (*row, *extra), "points", *ends)
    offered = [Option("1", "1", _response(1)), Option("2", "2", _response(2))]
    if takes_tie(project):
        offered.append(Option("tie", "3", _tie_words(project)))
    return Group(form["choice"], legend, (*offered, *extra))


def strength_group(form: forms.Form, project: Project) -> Group:
    """How much better the chosen response is."""
    harmful = project.asked == Project.Asked.HARMFUL
    words = HARMFUL_WORDS if harmful else STRENGTH_WORDS
    options = tuple(
        Option(strength, str(key), str(words[Judgment.Strength(strength)]))
        for key, strength in enumerate(STRENGTHS[project.comparison], start=1)
    )
    # Where ties are allowed there may be nothing to say: the browser must not insist.
    required = not (takes_tie(project) or project.allow_both_bad or project.allow_none)
    legend = _("How much more harmful?") if harmful else _("How much better?")
    return Group(form["strength"], legend, options, required=required)


def safety_group(form: forms.Form) -> Group:
    """Which of the two are safe."""
    numbered = enumerate(SAFETY_WORDS.items(), start=1)
    options = tuple(Option(value.value, str(key), str(words)) for key, (value, words) in numbered)
    return Group(form["safety"], _("Are they safe?"), options)


def best_group(form: forms.Form, project: Project, count: int) -> Group:
    """Which of three responses or more is picked."""
    options = [Option(str(n), str(n), _response(n)) for n in range(1, count + 1)]
    if project.allow_none:
        options.append(Option("none", "0", str(NONE_GOOD)))
    return Group(form["best"], heading(project, count), tuple(options))


def rank_group(form: forms.Form, project: Project, number: int, count: int) -> Group:
    """The place of the response with this number."""
    harmful = project.asked == Project.Asked.HARMFUL
    low, high = (_("most harmful"), _("least harmful")) if harmful else (_("best"), _("worst"))
    legend, places = _("Place of response %(number)s") % {"number": number}, numbers(1, count)
    return Group(form[f"rank_{number}"], legend, places, "numbers", low, high, not project.allow_none)


def _point(project: Project, key: int, choice: str, strength: str) -> Option:
    """A point in words; a strength says how much better or, where that is asked, how much more harmful."""
    if not strength:
        return Option(choice, str(key), _tie_words(project), short=_("tie"))
    words = HARMFUL_POINT_WORDS if project.asked == Project.Asked.HARMFUL else POINT_WORDS
    said = str(words[Judgment.Strength(strength)]) % {"number": choice}
    return Option(f"{choice}:{strength}", str(key), said, short=str(SHORT_WORDS[Judgment.Strength(strength)]))


def _tie_words(project: Project) -> str:
    return _("Equally harmful") if project.asked == Project.Asked.HARMFUL else _("Equally good")


def _response(number: int) -> str:
    return _("Response %(number)s") % {"number": number}
