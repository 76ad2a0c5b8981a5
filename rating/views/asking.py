"""Ways of asking: what raters are asked, from presets, with a live look at the desk."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from rating.access import MemberRequest, project_view
from rating.asking_forms import WaysOfAsking, add_row
from rating.desk import AnswerForm, asked_context
from rating.models import Assignment, Project, Role
from rating.presets import PRESETS
from rating.services.asking import build_asking, update_asking
from rating.services.projects import ProjectError, has_ratings
from rating.services.responses import Asking

SAMPLE_MESSAGES = [
    {"role": "user", "content": gettext_noop("Can I freeze cooked rice?")},
    {"role": "assistant", "content": gettext_noop("Yes, for about a month.")},
    {"role": "user", "content": gettext_noop("And how do I **warm it up** again?")},
]
SAMPLE_RESPONSES = [
    gettext_noop(
        "In the microwave with a spoonful of water, covered, until it steams all through. Eat it at once."
    ),
    gettext_noop("Just heat it. It is not hard."),
    gettext_noop(
        "Put it in a pan with a little water on low heat, stir now and then, and serve it very hot."
    ),
    gettext_noop(
        "1. Add water.\n2. Cover it.\n3. Heat it for two minutes.\n4. Stir, and check that it is hot."
    ),
]


NO_ID = UUID(int=0)
Fields = dict[str, Any]


@dataclass(frozen=True)
class SampleLease:
    """Stands for a lease in the look at the desk; nothing is sent from there."""

    order_shown: list[int]
    public_id: UUID = NO_ID


@project_view(Role.ADMIN)
def asking(request: MemberRequest, project: Project) -> HttpResponse:
    """What raters are asked; `?preset=` fills the form and stores nothing."""
    if request.method != "POST":
        ways = ways_of(project, preset=request.GET.get("preset", ""))
        return render_asking(request, project, ways, 200)
    ways = ways_of(project, data=request.POST)
    if ways.is_valid():
        try:
            update_asking(project, *ways.values)
        except ProjectError as error:
            ways.refuse(error.field, error.message)
        else:
            messages.success(request, _("Saved. Raters are asked this from their next item on."))
            return redirect("rating:asking", slug=project.slug)
    return render_asking(request, project, ways, 422)


@project_view(Role.ADMIN)
def preview_asking(request: MemberRequest, project: Project) -> HttpResponse:
    """A look at the desk as the form would have it, or the form with one more row; nothing is stored."""
    if request.method != "POST":
        return redirect("rating:asking", slug=project.slug)
    adds = request.POST.get("add", "")
    data = add_row(request.POST, adds) if adds else request.POST
    return render_asking(request, project, ways_of(project, data=data), 200, added=adds)


def ways_of(project: Project, **filled: object) -> WaysOfAsking:
    """The form of a fresh copy of the project: validating a form may write into its instance."""
    return WaysOfAsking(Project.objects.get(pk=project.pk), locked=has_ratings(project), **filled)  # type: ignore[arg-type]


def render_asking(
    request: MemberRequest, project: Project, ways: WaysOfAsking, status: int, added: str = ""
) -> HttpResponse:
    """The page, or for htmx the look at the desk alone."""
    part = "#look" if request.htmx else ""
    presets = {key: preset.translated() for key, preset in PRESETS.items()}
    context = {"project": project, "ways": ways, "presets": presets, "added": added, "look": look_at(ways)}
    return render(request, f"rating/asking.html{part}", context, status=status)


def look_at(ways: WaysOfAsking) -> dict[str, object]:
    """What the desk would show of a sample item, or the reason why there is nothing to show."""
    count = ways.responses
    try:
        sample = sample_asking(ways, count)
    except ProjectError as error:
        return {"refused": error.message}
    if sample is None:
        return {"refused": _("Fill in what is marked, and the desk is shown here.")}
    lease: Assignment = SampleLease(list(range(1, count + 1)))  # type: ignore[assignment]
    form = AnswerForm(sample.project, lease, asking=sample)
    texts = [_(SAMPLE_RESPONSES[place % len(SAMPLE_RESPONSES)]) for place in range(count)]
    conversation = [{**message, "content": _(message["content"])} for message in SAMPLE_MESSAGES]
    return {"messages_shown": conversation, **asked_context(form, lambda number: texts[number - 1])}


def sample_asking(ways: WaysOfAsking, count: int) -> Asking | None:
    """What would be asked of an item with so many responses; None when the form is not filled."""
    if ways.settings.is_bound:
        if not ways.is_valid():
            return None
        values = ways.values
    else:
        values = initial_values(ways)
    asking = build_asking(ways.project, *values)
    return asking if count == 1 or asking.project.rate_each else Asking(asking.project, (), asking.questions)


def initial_values(ways: WaysOfAsking) -> tuple[Fields, list[Fields], list[Fields]]:
    """What the form shows before anything is sent."""
    settings = {name: ways.settings[name].initial for name in ways.settings.fields}
    rows = (ways.dimensions.initial, ways.questions.initial)
    dimensions, questions = ([dict(row) for row in part or []] for part in rows)
    return settings, dimensions, questions
