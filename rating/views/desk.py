"""The rating desk: hand out an item, take the answer, hand out the next.

The page's script shows the next item before the answer to this one has arrived. It says which items it holds
already (`held`), and the answer of the server is then the item after those.
"""

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from rating.access import MemberRequest, project_view
from rating.desk import AnswerForm, desk_context
from rating.forms import SkipForm
from rating.models import Assignment, Judgment, Project, Rater, Role
from rating.preferences import Preferences, preferences_of
from rating.prepared import Prepared, Slot, whole
from rating.reopening import filled_in
from rating.services.judgments import (
    AlreadyJudgedError,
    AnswerError,
    LeaseLostError,
    record_judgment,
    record_skip,
)
from rating.services.leases import lease_ahead, lease_next_item, queue_counts, release_ahead
from rating.services.projects import rater_for
from rating.services.revisions import RevisionClosedError, last_revisable, revise_judgment

SAVED = gettext_noop("Saved.")
SKIPPED = gettext_noop("Skipped; the item goes to somebody else.")
ALREADY = gettext_noop("You had already answered that item; nothing was changed.")
LOST = gettext_noop("That item ran out of time and went to somebody else, so your answer was not stored.")
TOO_LATE = gettext_noop("It is too late to change that answer; it stays as it was.")
NOTHING_TO_UNDO = gettext_noop("There is no answer that you could still take back.")
MOST_HELD = 20
# No digits: nothing in the page should look like the id of anything.
LETTERS = str.maketrans("0123456789", "ghijklmnop")


@project_view(Role.RATER)
def judge(request: MemberRequest, project: Project) -> HttpResponse:
    """The next item to rate, or the word that there is none."""
    return show_next(request, project, held=held_items(request.GET) if request.htmx else [])


@project_view(Role.RATER)
def answer(request: MemberRequest, project: Project, assignment: UUID) -> HttpResponse:
    """Take the answer to a lease of one's own, or another answer in the place of one's last."""
    if request.method != "POST":
        return redirect("rating:judge", slug=project.slug)
    lease = own_lease(request, project, assignment)
    if lease is None:
        return refuse(request, project)
    form = AnswerForm(project, lease, request.POST)
    revised = revised_judgment(request, lease)
    if not form.is_valid():
        return show_again(request, project, lease, form, revised)
    key = form.cleaned_data["idempotency_key"]
    try:
        if revised is None:
            record_judgment(lease, form.answer(), idempotency_key=key)
        else:
            revise_judgment(revised, form.answer(), idempotency_key=key)
    except AnswerError as error:
        form.refuse(error)
        return show_again(request, project, lease, form, revised)
    except (AlreadyJudgedError, LeaseLostError, RevisionClosedError) as error:
        return go_on(request, project, words_for(error), status=409)
    return go_on(request, project, SAVED)


@project_view(Role.RATER)
def skip(request: MemberRequest, project: Project, assignment: UUID) -> HttpResponse:
    """Give an item of one's own to somebody else."""
    if request.method != "POST":
        return redirect("rating:judge", slug=project.slug)
    lease = own_lease(request, project, assignment)
    if lease is None:
        return refuse(request, project)
    form = SkipForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    try:
        record_skip(lease, reason)
    except AlreadyJudgedError:
        return go_on(request, project, ALREADY, status=409)
    return go_on(request, project, SKIPPED)


@project_view(Role.RATER)
def undo(request: MemberRequest, project: Project) -> HttpResponse:
    """Open one's last answer again, within the project's time; nothing changes until it is sent."""
    judgment = last_revisable(project, rater_for(project, request.user))
    if request.method != "POST":
        return redirect("rating:judge", slug=project.slug)
    if judgment is None or judgment.assignment is None:
        return go_on(request, project, NOTHING_TO_UNDO, status=409)
    return redirect("rating:revise", slug=project.slug, assignment=judgment.assignment.public_id)


@project_view(Role.RATER)
def revise(request: MemberRequest, project: Project, assignment: UUID) -> HttpResponse:
    """One's last answer, filled in, to be changed."""
    rater = rater_for(project, request.user)
    judgment = last_revisable(project, rater)
    if judgment is None or judgment.assignment is None or judgment.assignment.public_id != assignment:
        return go_on(request, project, TOO_LATE, status=409)
    form = AnswerForm(project, judgment.assignment)
    form.initial = {**form.initial, **filled_in(judgment, form)}
    context = {"status": 200, "revises": judgment, **desk_context(project, judgment.assignment, form)}
    return render_desk(request, project, rater, context)


@project_view(Role.RATER)
def release(request: MemberRequest, project: Project) -> HttpResponse:
    """The rater leaves: give back what the page had at hand and never showed."""
    if request.method == "POST":
        release_ahead(rater_for(project, request.user))
    return HttpResponse(status=204)


def account_mark(request: MemberRequest, project: Project) -> str:
    """What tells the browser whose answers are waiting in it; says nothing about the account."""
    digest = salted_hmac("rating.desk.account", f"{request.user.pk}:{project.pk}").hexdigest()[:32]
    return digest.translate(LETTERS)


def own_lease(request: MemberRequest, project: Project, public_id: UUID) -> Assignment | None:
    """The account's own assignment. An answer that waited in the browser for another account is not taken."""
    if request.headers.get("X-Ratchet-Account", mark := account_mark(request, project)) != mark:
        return None
    return _OWN_LEASE.first(lease=public_id, user=request.user.pk, project=project.pk)


def refuse(request: MemberRequest, project: Project) -> HttpResponse:
    """There is no such item for this account: 404, and for the page's script the reason in a header."""
    given_by = request.headers.get("X-Ratchet-Account", "")
    response = render(request, "404.html", status=404)
    response["X-Ratchet-Desk"] = "gone" if given_by == account_mark(request, project) else "other-account"
    return response


def revised_judgment(request: MemberRequest, lease: Assignment) -> Judgment | None:
    """The judgment that the form says it revises."""
    text = request.POST.get("revises", "")
    own = lease.judgments.all() if text else ()
    return next((judgment for judgment in own if str(judgment.public_id) == text), None)


def held_items(sent: QueryDict) -> list[UUID]:
    """The items that the page has already; what is no id is none of ours."""
    held = []
    for text in sent.getlist("held")[:MOST_HELD]:
        try:
            held.append(UUID(text))
        except ValueError:
            continue
    return held


def words_for(error: Exception) -> str:
    """What a refusal is called on the desk."""
    if isinstance(error, AlreadyJudgedError):
        return ALREADY
    return LOST if isinstance(error, LeaseLostError) else TOO_LATE


def show_next(
    request: MemberRequest,
    project: Project,
    said: str = "",
    status: int = 200,
    held: list[UUID] | None = None,
) -> HttpResponse:
    """The desk with the rater's next item, or the one after those that the page holds, or its empty state."""
    rater = rater_for(project, request.user)
    lease = lease_ahead(project, rater, held) if held else lease_next_item(project, rater)
    context: dict[str, object] = {"said": _(said) if said else "", "status": status}
    if lease is not None:
        context |= desk_context(project, lease)
    return render_desk(request, project, rater, context)


def show_again(
    request: MemberRequest, project: Project, lease: Assignment, form: AnswerForm, revises: Judgment | None
) -> HttpResponse:
    """The same item with the errors at their fields; what was filled in stays."""
    context = {"status": 422, "revises": revises, **desk_context(project, lease, form)}
    return render_desk(request, project, rater_for(project, request.user), context)


def go_on(request: MemberRequest, project: Project, said: str, status: int = 200) -> HttpResponse:
    """The next item as the answer to the page's script; for a plain form a redirect to it, with a message."""
    if request.htmx:
        return show_next(request, project, said, status, held_items(request.POST))
    level = messages.SUCCESS if status == 200 else messages.WARNING
    messages.add_message(request, level, _(said))
    return redirect("rating:judge", slug=project.slug)


def render_desk(
    request: MemberRequest, project: Project, rater: Rater, context: dict[str, object]
) -> HttpResponse:
    """The whole page, or its swapped part; the header tells the page's script that it is the desk."""
    # The script prints the rater's keys on what it swaps in.
    preferences = Preferences() if request.htmx else preferences_of(request.user)
    context |= {
        "project": project,
        "counts": queue_counts(project, rater),
        "preferences": preferences,
        "keys": preferences.shown_keys,
        "account": account_mark(request, project),
        "may_undo": project.undo_seconds > 0,
    }
    part = "#desk" if request.htmx else ""
    response = render(request, f"rating/judge.html{part}", context)
    response.status_code = int(str(context["status"]))
    response["X-Ratchet-Desk"] = "1"
    response["Cache-Control"] = "no-store"
    return response


_OWN_LEASE = Prepared(
    lambda: Assignment.objects.select_related("item__prompt", "guidelines").filter(
        public_id=Slot("lease", Assignment._meta.get_field("public_id")),
        rater__user=whole("user"),
        item__project=whole("project"),
    )
)
