"""Changing what raters are asked, so that what was said before keeps its meaning.

A dimension or question that was answered never changes: when its words, scale, kind, options or scope are
edited, it is archived and a new one with the next free key takes its place. Taken out, it is archived; one
that nobody answered is simply removed. Only its place and whether it is required are changed where it stands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext

from rating.models import Answer, Dimension, Project, Question, Rating
from rating.services.audit import record_event
from rating.services.errors import at_most_characters
from rating.services.projects import ProjectError, update_project
from rating.services.responses import Asking
from rating.services.texts import TextError, check_text

MAX_DIMENSIONS, MAX_QUESTIONS, MAX_OPTIONS = 12, 30, 40
MAX_OPTION = 100
HIGHEST = 9
MEANING: dict[type[Dimension] | type[Question], tuple[str, ...]] = {
    Dimension: ("name", "style", "low", "high", "low_label", "high_label"),
    Question: ("text", "kind", "scope", "options", "low_label", "high_label"),
}
NAMES = {
    "name": gettext_noop("Rated for"),
    "text": gettext_noop("Question"),
    "low_label": gettext_noop("Words at the low end"),
    "high_label": gettext_noop("Words at the high end"),
}
LENGTHS = {"name": 80, "text": 300, "low_label": 60, "high_label": 60}
Kind = Question.Kind
Row = Mapping[str, Any]


def build_asking(
    project: Project, settings: Row, dimensions: Sequence[Row], questions: Sequence[Row]
) -> Asking:
    """What would be asked, for a look at it: nothing is stored, and `project` is not touched.

    Raises:
        ProjectError: as update_asking.
    """
    copy = Project(pk=project.pk, slug=project.slug, name=project.name)
    for name in ("scale_min", "scale_max", *settings):
        setattr(copy, name, settings.get(name, getattr(project, name)))
    made_dimensions = [_make(Dimension, copy, row, place) for place, row in enumerate(dimensions)]
    made_questions = [_make(Question, copy, row, place) for place, row in enumerate(questions)]
    _check_asking(copy, made_dimensions, made_questions)
    _give_keys(made_dimensions, set())
    _give_keys(made_questions, set())
    return Asking(copy, tuple(made_dimensions), tuple(made_questions))


@transaction.atomic
def update_asking(
    project: Project, settings: Row, dimensions: Sequence[Row], questions: Sequence[Row]
) -> Project:
    """Store what is asked from now on. Rows name an existing dimension or question by its `key`.

    Args:
        settings: fields of the project, as in update_project.
        dimensions: fields of Dimension in the order in which they are asked; without a key, one is made.
        questions: the same for Question.

    Raises:
        ProjectError: a setting or row is unfit; the field of a row is as in `dimensions.0.name`.
    """
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    build_asking(project, settings, dimensions, questions)
    stored = update_project(project, **settings)
    _replace(Dimension, stored, dimensions, Rating, "dimension")
    _replace(Question, stored, questions, Answer, "question")
    counts = {"dimensions": len(dimensions), "questions": len(questions)}
    record_event("asking.changed", stored, stored.slug, **counts)
    return stored


def _replace(
    model: type[Dimension] | type[Question],
    project: Project,
    rows: Sequence[Row],
    said: type[Rating] | type[Answer],
    name: str,
) -> None:
    """Bring the rows in force to what is wanted, see the head of this file."""
    existing = {one.key: one for one in model.objects.filter(project=project)}
    answered = set(
        said.objects.filter(**{f"{name}__project": project}).values_list(f"{name}_id", flat=True).distinct()
    )
    kept: set[int] = set()
    fresh = []
    for place, row in enumerate(rows):
        wanted, old = _make(model, project, row, place), existing.get(row.get("key", ""))
        if old is None or old.pk in kept or (old.pk in answered and _meaning(old) != _meaning(wanted)):
            fresh.append(wanted)
            continue
        wanted.pk, wanted.key = old.pk, old.key
        wanted.save(force_update=True)
        kept.add(old.pk)
    gone = [one for one in existing.values() if one.pk not in kept]
    removed = [one for one in gone if one.pk not in answered]
    model.objects.filter(pk__in=[one.pk for one in removed]).delete()
    left_out = [one.pk for one in gone if one.pk in answered and one.archived_at is None]
    model.objects.filter(pk__in=left_out).update(archived_at=timezone.now())
    _give_keys(fresh, set(existing) - {one.key for one in removed})
    for one in fresh:
        one.save(force_insert=True)


def _make(model: type[Dimension] | type[Question], project: Project, row: Row, place: int) -> Any:
    """An unsaved dimension or question of the row, with its defaults; thumbs are always 0 and 1."""
    one: Any = model(project=project, position=place, **row)
    if isinstance(one, Dimension) and one.style == Dimension.Style.THUMBS:
        one.low, one.high = 0, 1
    if isinstance(one, Question) and one.kind not in (Kind.CHOICE, Kind.TAGS):
        one.options = []
    return one


def _meaning(one: Dimension | Question) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in MEANING[type(one)])


def _give_keys(rows: Sequence[Dimension | Question], taken: set[str]) -> None:
    """Give each row without a free key the next free one made of it, or of its words."""
    for one in rows:
        words = one.name if isinstance(one, Dimension) else one.text
        stem = (one.key or slugify(words))[:34].strip("-_") or "asked"
        numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
        one.key = stem if stem not in taken else next(key for key in numbered if key not in taken)
        taken.add(one.key)


def _check_asking(project: Project, dimensions: Sequence[Dimension], questions: Sequence[Question]) -> None:
    _check_settings(project, bool(dimensions))
    if len(dimensions) > MAX_DIMENSIONS:
        words = ngettext("At most %(limit)s dimension.", "At most %(limit)s dimensions.", MAX_DIMENSIONS)
        raise ProjectError("dimensions", words % {"limit": MAX_DIMENSIONS})
    if len(questions) > MAX_QUESTIONS:
        words = ngettext("At most %(limit)s question.", "At most %(limit)s questions.", MAX_QUESTIONS)
        raise ProjectError("questions", words % {"limit": MAX_QUESTIONS})
    for place, dimension in enumerate(dimensions):
        _check_words(f"dimensions.{place}", dimension, "name")
        if not 0 <= dimension.low < dimension.high <= HIGHEST:
            words = _("A scale goes from 0 or more up to %(highest)s or less.")
            raise ProjectError(f"dimensions.{place}.high", words % {"highest": HIGHEST})
    for place, question in enumerate(questions):
        _check_words(f"questions.{place}", question, "text")
        if question.kind in (Kind.CHOICE, Kind.TAGS):
            _check_options(f"questions.{place}.options", question.options, MAX_OPTION)
            if len(question.options) < 2:
                raise ProjectError(f"questions.{place}.options", _("Give two options or more, one a line."))


def _check_settings(project: Project, has_dimensions: bool) -> None:
    if project.rate_each and not has_dimensions:
        raise ProjectError("rate_each", _("Add a dimension below, in which each response is rated."))
    _check_options("span_reasons", project.span_reasons, 200)
    if project.asked == Project.Asked.HARMFUL:
        for name, words in (
            ("allow_both_bad", _("“Both bad” does not go with picking the more harmful response.")),
            ("allow_none", _("“None is good enough” does not go with picking the more harmful response.")),
            ("pair_safety", _("The safety of the pair does not go with picking the more harmful response.")),
        ):
            if getattr(project, name):
                raise ProjectError(name, words)


def _check_words(where: str, one: Dimension | Question, named: str) -> None:
    for name in (named, "low_label", "high_label"):
        text = getattr(one, name)
        try:
            check_text(text, _(NAMES[name]))
        except TextError as error:
            raise ProjectError(f"{where}.{name}", str(error)) from None
        if len(text) > LENGTHS[name]:
            raise ProjectError(f"{where}.{name}", at_most_characters(LENGTHS[name]))
    if not getattr(one, named).strip():
        raise ProjectError(f"{where}.{named}", _("Say what is asked."))


def _check_options(field: str, options: Sequence[str], limit: int) -> None:
    if len(options) > MAX_OPTIONS or len(set(options)) != len(options):
        words = _("At most %(limit)s different ones, one on each line.")
        raise ProjectError(field, words % {"limit": MAX_OPTIONS})
    for option in options:
        try:
            check_text(option, _("Option"))
        except TextError as error:
            raise ProjectError(field, str(error)) from None
        if not option.strip() or len(option) > limit:
            raise ProjectError(field, _("Each line has 1 to %(limit)s characters.") % {"limit": limit})
