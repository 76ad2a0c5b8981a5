"""The rating desk: the form of an answer in shown positions, and what the page shows of a lease.

Nothing here tells which completion is which: responses are numbered as they are shown, and the only name of
the work is the lease's public id.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from rating.desk_parts import (
    Group,
    best_group,
    choice_group,
    dimension_group,
    heading,
    numbers,
    question_field,
    question_group,
    rank_group,
    safety_group,
    strength_group,
)
from rating.forms import SkipForm, clean_seconds
from rating.models import Assignment, ItemCompletion, Judgment, Project, Question, SpanMark
from rating.prepared import Prepared, whole
from rating.services.answers import (
    FLAGS,
    MAX_INTENT,
    MAX_RATIONALE,
    MAX_REWRITE,
    AnswerError,
    JudgmentAnswer,
    Mark,
)
from rating.services.responses import Asking, Given, asking_of, field_name
from rating.services.spans import MAX_MARKS, MAX_REASON

MARK_ROWS = 3


@dataclass(frozen=True)
class Response:
    """One response as it is shown: its number, its text, what is asked about it, the rows for marks."""

    number: int
    text: str
    groups: list[Group]
    marks: list[dict[str, forms.BoundField]]


def text_area(limit: int, label: str, rows: int = 3, missing: str = "") -> forms.CharField:
    """A field for a text; `missing` is what is said when it is needed and empty."""
    widget = forms.Textarea({"rows": rows, "dir": "auto"})
    errors = {"required": missing}
    return forms.CharField(
        required=bool(missing), max_length=limit, label=label, widget=widget, error_messages=errors
    )


class AnswerForm(forms.Form):
    """An answer to one lease, in shown positions: `record_judgment` says which completions they are."""

    idempotency_key = forms.UUIDField(widget=forms.HiddenInput)
    seconds = forms.CharField(required=False, max_length=40, widget=forms.HiddenInput)
    flags = forms.MultipleChoiceField(required=False, choices=tuple(FLAGS.items()))

    def __init__(
        self,
        project: Project,
        lease: Assignment,
        data: QueryDict | None = None,
        *,
        initial: Mapping[str, Any] | None = None,
        asking: Asking | None = None,
    ) -> None:
        first = {"idempotency_key": uuid.uuid4(), **(initial or {})}
        super().__init__(data, initial=first, auto_id="answer_%s")
        self.count = len(lease.order_shown)
        self.asking = asking or asking_of(project, self.count)
        self.project = self.asking.project
        self._add_verdict()
        self._add_responses()
        self._add_words()

    def _add_verdict(self) -> None:
        """What is said of all responses: a choice, a pick or places."""
        if self.count == 2:
            self.fields["choice"] = forms.CharField(required=False, max_length=20)
            self.fields["strength"] = forms.ChoiceField(
                required=False, choices=Judgment.Strength.choices, label=_("How much better?")
            )
        if self.count == 2 and self.project.pair_safety:
            self.fields["safety"] = forms.ChoiceField(required=False, choices=Judgment.Safety.choices)
        if self.count > 2 and self.project.pick_best:
            self.fields["best"] = forms.CharField(required=False, max_length=10)
        elif self.count > 2:
            for number in self.numbers:
                self.fields[f"rank_{number}"] = forms.IntegerField(required=False)
            if self.project.allow_none:
                self.fields["none_good"] = forms.BooleanField(required=False)

    def _add_responses(self) -> None:
        """What is said of each response, and the answers about the item."""
        if self.count == 1 and not self.asking.dimensions:
            self.fields["rating"] = forms.IntegerField(required=False)
        for number in self._rated_numbers:
            for dimension in self.asking.dimensions:
                name = field_name("rating", dimension.key, number)
                self.fields[name] = forms.IntegerField(required=False)
        for question in self.asking.questions:
            for number in self.numbers if question.scope == Question.Scope.RESPONSE else (None,):
                self.fields[field_name("answer", question.key, number)] = question_field(question)
        if self.project.mark_spans:
            for number in self.numbers:
                for row in range(MAX_MARKS):
                    self._add_mark(f"mark_{number}_{row}")

    def _add_mark(self, name: str) -> None:
        reasons = [("", _("no reason"))] + [(reason, reason) for reason in self.project.span_reasons]
        verdicts = (("", _("not marked")), *SpanMark.Verdict.choices)
        self.fields[f"{name}_passage"] = forms.CharField(
            required=False, label=_("Passage"), max_length=100_000
        )
        self.fields[f"{name}_verdict"] = forms.ChoiceField(
            required=False, choices=verdicts, label=_("Verdict")
        )
        self.fields[f"{name}_nth"] = forms.IntegerField(
            required=False, min_value=0, max_value=10_000, widget=forms.HiddenInput
        )
        self.fields[f"{name}_reason"] = (
            forms.ChoiceField(required=False, choices=reasons, label=_("Reason"))
            if self.project.span_reasons
            else forms.CharField(required=False, label=_("Reason"), max_length=MAX_REASON)
        )

    def _add_words(self) -> None:
        """What the rater writes."""
        if self.project.ask_intent:
            self.fields["intent"] = text_area(
                MAX_INTENT,
                _("What does the attack want to reach?"),
                2,
                _("Say first what the attack wants to reach."),
            )
        if self.project.allow_rewrite:
            self.fields["rewrite"] = text_area(MAX_REWRITE, _("A better response"), 8)
        if self.project.rationale != Project.Rationale.OFF:
            required = self.project.rationale == Project.Rationale.REQUIRED
            missing = _("Say why.") if required else ""
            self.fields["rationale"] = text_area(MAX_RATIONALE, _("Why?"), missing=missing)

    def answer(self) -> JudgmentAnswer:
        """What the rater said; call it on a valid form."""
        data = self.cleaned_data
        choice, _, strength = data.get("choice", "").partition(":")
        best = data.get("best", "")
        ranks = [data[f"rank_{number}"] for number in self.numbers] if self.ranked else []
        none_good = "none" in (choice, best) or data.get("none_good", False)
        single = self.count == 1
        return JudgmentAnswer(
            choice="" if choice == "none" else choice,
            strength=strength or data.get("strength", ""),
            safety=data.get("safety", ""),
            best=int(best) if best.isdecimal() and best.isascii() else None,
            none_good=none_good,
            ranks=[] if none_good and not any(ranks) else ranks,
            rating=data.get("rating"),
            ratings=self._ratings(None) if single else {},
            response_ratings=[] if single else [self._ratings(number) for number in self._rated_numbers],
            answers=self._answers(None),
            response_answers=[self._answers(number) for number in self.numbers],
            marks=self._marks(),
            intent=data.get("intent", ""),
            rewrite=data.get("rewrite", ""),
            flags=data["flags"],
            rationale=data.get("rationale", ""),
            seconds=clean_seconds(data["seconds"]),
        )

    def refuse(self, error: AnswerError) -> None:
        """Show a service's refusal at its field, or above all fields when it belongs to none."""
        name = {"ranks": "rank_1"}.get(error.field, error.field)
        if error.field.startswith("marks."):
            name = f"mark_{error.field.removeprefix('marks.')}_0_passage"
        if error.field == "strength" and "strength" not in (group.field.name for group in self.steps):
            name = "choice" if self.is_points else "strength"
        self.add_error(name if name in self.fields else None, error.message)

    @property
    def numbers(self) -> range:
        """The numbers of the responses as shown."""
        return range(1, self.count + 1)

    @property
    def is_points(self) -> bool:
        """Whether the choice is a row of points, which has the strength in it."""
        return self.project.comparison in (Project.Comparison.SEVEN, Project.Comparison.EIGHT)

    @property
    def _rated_numbers(self) -> Iterable[int | None]:
        """The numbers in the names of the ratings: none for the only response."""
        return (None,) if self.count == 1 else self.numbers if self.asking.dimensions else ()

    def _ratings(self, number: int | None) -> dict[str, int]:
        keys = [dimension.key for dimension in self.asking.dimensions]
        given = {key: self.cleaned_data[field_name("rating", key, number)] for key in keys}
        return {key: value for key, value in given.items() if value is not None}

    def _answers(self, number: int | None) -> dict[str, Given]:
        """The answers about the item, or about the response with this number, without those left open."""
        scope = Question.Scope.ITEM if number is None else Question.Scope.RESPONSE
        found: dict[str, Given] = {}
        for question in self.asking.questions:
            if question.scope == scope:
                value = self.cleaned_data[field_name("answer", question.key, number)]
                if value not in (None, "", []):
                    found[question.key] = _as_given(question, value)
        return found

    def _marks(self) -> list[Mark]:
        if not self.project.mark_spans:
            return []
        data, found = self.cleaned_data, []
        for number in self.numbers:
            for row in range(MAX_MARKS):
                name = f"mark_{number}_{row}"
                if data[f"{name}_passage"]:
                    verdict, reason = data[f"{name}_verdict"], data[f"{name}_reason"]
                    nth = data[f"{name}_nth"] or 0
                    found.append(Mark(number, data[f"{name}_passage"], verdict, reason, nth))
        return found

    @cached_property
    def steps(self) -> list[Group]:
        """What is asked of the item: the ratings of a single response or the choice first."""
        project, groups = self.project, []
        if self.count == 1:
            groups += self._scales(None)
        if self.count == 2:
            groups.append(choice_group(self, project))
        if self.count == 2 and project.comparison == Project.Comparison.STRENGTHS:
            groups.append(strength_group(self, project))
        if self.count == 2 and project.pair_safety:
            groups.append(safety_group(self))
        if "best" in self.fields:
            groups.append(best_group(self, project, self.count))
        return groups + [question_group(self, q) for q in self.asking.questions if q.scope == "item"]

    @cached_property
    def bar(self) -> Group | None:
        """The only step, which stands in the bar at the bottom; None when there are more or none."""
        return self.steps[0] if len(self.steps) == 1 and self.steps[0].look not in ("text", "tags") else None

    @cached_property
    def said_strength(self) -> Group | None:
        """How much better, where it is asked but not needed."""
        plain = self.count == 2 and self.project.comparison == Project.Comparison.CHOICE
        return strength_group(self, self.project) if plain else None

    @property
    def ranked(self) -> bool:
        """Whether the responses are put in order."""
        return "rank_1" in self.fields

    @cached_property
    def ranks(self) -> list[Group]:
        """The places in a ranking, where they stand below all responses: each response is rated before."""
        return [self._rank(number) for number in self.numbers] if self._ranks_apart else []

    def groups_of(self, number: int) -> list[Group]:
        """What is asked about the response with this number, below its text."""
        groups = self._scales(number) if self.count > 1 else []
        groups += [question_group(self, q, number) for q in self.asking.questions if q.scope == "response"]
        if self.ranked and not self._ranks_apart:
            groups.append(self._rank(number))
        return groups

    def marks_of(self, number: int) -> list[dict[str, forms.BoundField]]:
        """The rows for marks in this response: a few, and as many more as are filled."""
        if not self.project.mark_spans:
            return []
        parts = ("passage", "verdict", "reason", "nth")
        rows = [{part: self[f"mark_{number}_{row}_{part}"] for part in parts} for row in range(MAX_MARKS)]
        filled = [place for place, row in enumerate(rows, start=1) if row["passage"].value()]
        return rows[: max([MARK_ROWS, *filled])]

    @property
    def _ranks_apart(self) -> bool:
        about_each = any(question.scope == "response" for question in self.asking.questions)
        return self.ranked and bool(about_each or self.asking.dimensions)

    def _rank(self, number: int) -> Group:
        return rank_group(self, self.project, number, self.count)

    def _scales(self, number: int | None) -> list[Group]:
        if "rating" in self.fields:
            points = numbers(self.project.scale_min, self.project.scale_max)
            legend = _("How good is this response?")
            return [Group(self["rating"], legend, points, "numbers", _("bad"), _("excellent"))]
        return [dimension_group(self, dimension, number) for dimension in self.asking.dimensions]


def _as_given(question: Question, value: Any) -> Given:
    if question.kind == Question.Kind.YES_NO:
        return bool(value == "yes")
    return tuple(value) if question.kind == Question.Kind.TAGS else value


def desk_context(project: Project, lease: Assignment, form: AnswerForm | None = None) -> dict[str, Any]:
    """What the desk shows of a lease: the conversation, the responses in the shown order, the form."""
    form = form or AnswerForm(project, lease)
    texts = dict(_TEXTS(item=lease.item_id))
    return {
        "lease": lease,
        "skip_form": SkipForm(auto_id="skip_%s"),
        "messages_shown": lease.item.prompt.messages,
        "guidelines": lease.guidelines,
        **asked_context(form, lambda number: texts[lease.order_shown[number - 1]]),
    }


def asked_context(form: AnswerForm, text_of: Callable[[int], str]) -> dict[str, Any]:
    """The form with what is asked of each response, for the desk and for the admin's look at it."""
    return {
        "form": form,
        "heading": heading(form.project, form.count),
        "responses": [
            Response(number, text_of(number), form.groups_of(number), form.marks_of(number))
            for number in form.numbers
        ],
    }


_TEXTS = Prepared(
    lambda: ItemCompletion.objects.filter(item=whole("item")).values_list("completion_id", "completion__text")
)
