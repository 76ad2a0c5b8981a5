"""Snapshots and exports: what was frozen, and what may be taken away."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from rating.access import MemberRequest, project_view
from rating.models import Judgment, Project, Role
from training.models import DatasetSnapshot
from training.query_form import QueryForm, tell_query
from training.services.counting import count_query
from training.services.encoding import FILE_KINDS
from training.services.exports import EXPORT_FORMATS, Export, ExportError, iter_export
from training.services.queries import QueryError, SnapshotQuery, read_query
from training.services.snapshots import DATA_FILES, MANIFEST, QUERY, SnapshotError, query_of
from training.services.snapshots import freeze_snapshot as freeze
from training.snapshot_page import read_page, told_files, told_left_out

SNAPSHOTS_ON_A_PAGE = 20


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def snapshots(request: MemberRequest, project: Project) -> HttpResponse:
    """The project's snapshots, newest first, with their files, and the exports."""
    return show_snapshots(request, project)


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def new_snapshot(request: MemberRequest, project: Project) -> HttpResponse:
    """What to freeze, with how many rows it gives; `?from=3` begins with what another snapshot asked."""
    if any(name in request.GET for name in QueryForm.base_fields):
        return show_query(request, project, QueryForm(project, request.GET))
    number = read_number(request.GET.get("from", ""))
    source = DatasetSnapshot.objects.filter(project=project, number=number).first()
    return show_query(request, project, QueryForm(project, query=query_of(source) if source else None))


@project_view(Role.ADMIN, Role.OPERATOR)
@require_POST
def freeze_snapshot(request: MemberRequest, project: Project) -> HttpResponse:
    """Freeze what the form asks for, everything when it says nothing; 422 with what is wrong."""
    form = QueryForm(project, request.POST)
    if not form.is_valid():
        return show_query(request, project, form, status=422)
    return freeze_query(request, project, form.query)


@project_view(Role.ADMIN, Role.OPERATOR)
@require_POST
def freeze_without(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """The same snapshot again, of the same judgments, without one rater: `rater` is the pseudonym."""
    snapshot = get_object_or_404(DatasetSnapshot, project=project, number=number)
    query, rater = query_of(snapshot), request.POST.get("rater", "")
    asked = query.model_dump() | {"without_raters": [*query.without_raters, rater]}
    try:
        query = read_query(project, asked)
    except QueryError as error:
        return show_snapshots(request, project, refused=str(error), status=422)
    return freeze_query(request, project, query)


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def snapshot(request: MemberRequest, project: Project, number: int) -> HttpResponse:
    """A snapshot: its card, its files, what was made from it; `?against=2` says what differs."""
    found = get_object_or_404(
        DatasetSnapshot.objects.select_related("created_by"), project=project, number=number
    )
    page = read_page(found, read_number(request.GET.get("against", "")) or None)
    context = {"project": project, "page": page, "formats": EXPORT_FORMATS, "files": FILE_KINDS}
    return render(request, "training/snapshot.html", context)


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def download_snapshot_file(
    request: MemberRequest, project: Project, number: int, name: str
) -> HttpResponseBase:
    """One file of a snapshot, by its name in a fixed list: no other path is ever opened."""
    found = get_object_or_404(DatasetSnapshot, project=project, number=number)
    if name not in (MANIFEST, QUERY, *DATA_FILES):
        raise Http404("A snapshot has no such file.")
    try:
        file = (found.directory / name).open("rb")
    except FileNotFoundError:
        raise Http404("The file is gone from the disk: freeze a new snapshot.") from None
    content_type = "application/json" if name in (MANIFEST, QUERY) else "application/x-ndjson"
    return FileResponse(
        file, as_attachment=True, filename=f"{project.slug}-{number}-{name}", content_type=content_type
    )


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def export(request: MemberRequest, project: Project) -> HttpResponseBase:
    """`?format=trl-preference`: a dataset, streamed as it is read.

    `snapshot=2`, `split=train`, `file=csv` and `gzip=1` narrow it down.
    """
    number, found = request.GET.get("snapshot"), None
    if number:
        found = get_object_or_404(DatasetSnapshot, project=project, number=read_number(number))
    try:
        wanted = Export(
            project,
            request.GET.get("format", "trl-preference"),
            split=request.GET.get("split") or None,
            snapshot=found,
            file=request.GET.get("file", "jsonl"),
            compressed=request.GET.get("gzip") == "1",
        )
        pieces = iter_export(wanted)
    except ExportError as error:
        return show_snapshots(request, project, refused=str(error), status=422)
    headers = {"Content-Disposition": f'attachment; filename="{wanted.name}"'}
    return StreamingHttpResponse(pieces, content_type=wanted.content_type, headers=headers)


def read_number(text: str) -> int:
    """The number in an address; what is none names nothing."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def freeze_query(request: MemberRequest, project: Project, query: SnapshotQuery) -> HttpResponse:
    """Freeze, say what came of it, and go to the snapshot; 422 with the reason when there is nothing."""
    newest = DatasetSnapshot.objects.filter(project=project).first()
    try:
        frozen = freeze(project, query, user=request.user)
    except SnapshotError as error:
        return show_snapshots(request, project, refused=str(error), status=422)
    if newest is not None and frozen.number <= newest.number:
        told = _("Snapshot %(number)s has the same query and the same rows; nothing new was frozen.")
        messages.info(request, told % {"number": frozen.number})
    else:
        messages.success(request, _("Snapshot %(number)s is frozen.") % {"number": frozen.number})
    return redirect("training:snapshot", project.slug, frozen.number)


def show_query(
    request: MemberRequest, project: Project, form: QueryForm, *, status: int = 200
) -> HttpResponse:
    """The form with its count; the count alone when the form asked for itself."""
    count = count_query(project, form.query) if not form.is_bound or form.is_valid() else None
    context = {"project": project, "form": form, "count": count}
    part = "#count" if request.htmx else ""
    return render(request, f"training/new_snapshot.html{part}", context, status=status)


def show_snapshots(
    request: MemberRequest, project: Project, *, refused: str = "", status: int = 200
) -> HttpResponse:
    """The list, with what was refused."""
    found = DatasetSnapshot.objects.filter(project=project).select_related("created_by")
    page = Paginator(found, SNAPSHOTS_ON_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "project": project,
        "page": page,
        "entries": [(one, tell_query(query_of(one)), told_left_out(one), told_files(one)) for one in page],
        "formats": EXPORT_FORMATS,
        "files": FILE_KINDS,
        "judgments": Judgment.objects.trainable().of_project(project.pk).count(),
        "refused": refused,
    }
    return render(request, "training/snapshots.html", context, status=status)
