"""Snapshots and exports: what was frozen, and what may be taken away."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from rating.access import MemberRequest, project_view
from rating.models import Judgment, Project, Role
from training.models import DatasetSnapshot
from training.services.exports import EXPORT_FORMATS, Export, ExportError, iter_export
from training.services.rows import LEFT_OUT
from training.services.snapshots import DATA_FILES, MANIFEST, SnapshotError
from training.services.snapshots import freeze_snapshot as freeze

SNAPSHOTS_ON_A_PAGE = 20


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def snapshots(request: MemberRequest, project: Project) -> HttpResponse:
    """The project's snapshots, newest first, with their files, and the exports."""
    return show_snapshots(request, project)


@project_view(Role.ADMIN, Role.OPERATOR)
@require_POST
def freeze_snapshot(request: MemberRequest, project: Project) -> HttpResponse:
    """Freeze the judgments as they are now; 422 with the reason when there is nothing to freeze."""
    before = DatasetSnapshot.objects.filter(project=project).first()
    try:
        snapshot = freeze(project, user=request.user)
    except SnapshotError as error:
        return show_snapshots(request, project, refused=str(error), status=422)
    if snapshot == before:
        messages.info(
            request, f"Nothing has changed since snapshot {snapshot.number}; it is still the latest."
        )
    else:
        messages.success(request, f"Snapshot {snapshot.number} is frozen.")
    return redirect("training:snapshots", project.slug)


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def download_snapshot_file(
    request: MemberRequest, project: Project, number: int, name: str
) -> HttpResponseBase:
    """One file of a snapshot, by its name in a fixed list: no other path is ever opened."""
    snapshot = get_object_or_404(DatasetSnapshot, project=project, number=number)
    if name not in (MANIFEST, *DATA_FILES):
        raise Http404("A snapshot has no such file.")
    try:
        file = (snapshot.directory / name).open("rb")
    except FileNotFoundError:
        raise Http404("The file is gone from the disk: freeze a new snapshot.") from None
    content_type = "application/json" if name == MANIFEST else "application/x-ndjson"
    return FileResponse(
        file, as_attachment=True, filename=f"{project.slug}-{number}-{name}", content_type=content_type
    )


@project_view(Role.ADMIN, Role.OPERATOR)
@require_safe
def export(request: MemberRequest, project: Project) -> HttpResponseBase:
    """`?format=trl-preference`: a dataset, streamed as it is read.

    `snapshot=2`, `split=train`, `file=csv` and `gzip=1` narrow it down.
    """
    number = request.GET.get("snapshot")
    snapshot = (
        get_object_or_404(DatasetSnapshot, project=project, number=read_number(number)) if number else None
    )
    try:
        wanted = Export(
            project,
            request.GET.get("format", "trl-preference"),
            split=request.GET.get("split") or None,
            snapshot=snapshot,
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


def show_snapshots(
    request: MemberRequest, project: Project, *, refused: str = "", status: int = 200
) -> HttpResponse:
    found = DatasetSnapshot.objects.filter(project=project).select_related("created_by")
    page = Paginator(found, SNAPSHOTS_ON_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "project": project,
        "page": page,
        "entries": [describe(snapshot) for snapshot in page],
        "formats": EXPORT_FORMATS,
        "judgments": Judgment.objects.trainable().of_project(project.pk).count(),
        "refused": refused,
    }
    return render(request, "training/snapshots.html", context, status=status)


def describe(snapshot: DatasetSnapshot) -> dict[str, object]:
    """A snapshot for the page: its files with rows, and what was left out in words."""
    counts = snapshot.counts
    files = [{"name": MANIFEST, "rows": None}]
    files += [{"name": name, "rows": counts["rows"][name]} for name in DATA_FILES if counts["rows"].get(name)]
    return {
        "snapshot": snapshot,
        "train": counts["judgments"].get("train", 0),
        "eval": counts["judgments"].get("eval", 0),
        "files": files,
        "left_out": [(LEFT_OUT.get(reason, reason), count) for reason, count in counts["left_out"].items()],
    }
