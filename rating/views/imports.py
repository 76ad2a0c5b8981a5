"""Importing in the browser: upload, look at it, start it, watch it."""

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST

from rating.access import MemberRequest, project_view
from rating.import_forms import StartForm, UploadForm
from rating.import_page import progress_of, shown_digest
from rating.models import Import, Project, Role
from rating.services.imports import ImportReport
from rating.services.imports.formats import KNOWN
from rating.services.imports.jobs import (
    UNPACKED_FACTOR,
    cancel_import,
    queue_import,
    receive_upload,
)
from rating.services.imports.previews import Preview, look_at

FORM_BYTES = 100_000
LISTED = 20


# Checking the CSRF token reads the whole upload, so `receive` does it, once role and size are known.
@project_view(Role.ADMIN)
@csrf_exempt
def import_page(request: MemberRequest, project: Project) -> HttpResponseBase:
    """The form and the imports so far; on POST the file is kept and shown, or refused with 413 or 422."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > settings.MAX_UPLOAD_BYTES + FORM_BYTES:
        limit = filesizeformat(settings.MAX_UPLOAD_BYTES)
        words = _("The file is over %(limit)s. Split it, or import it by manage.py import_data.")
        return show(request, project, UploadForm(), words % {"limit": limit}, status=413)
    return receive(request, project)


@csrf_protect
def receive(request: MemberRequest, project: Project) -> HttpResponse:
    """Keep the uploaded file where the worker finds it: a large one is never in memory."""
    if request.method != "POST":
        return show(request, project, UploadForm())
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return show(request, project, form, status=422)
    upload: UploadedFile = form.cleaned_data["file"]
    try:
        row = receive_upload(project, upload, request.user)
    except OSError as error:
        words = _("The file could not be kept on the server: %(reason)s.")
        return show(request, project, form, words % {"reason": error.strerror or error}, status=507)
    return redirect("rating:import_file", slug=project.slug, pk=row.pk)


def show(
    request: MemberRequest, project: Project, form: UploadForm, too_big: str = "", status: int = 200
) -> HttpResponse:
    """The page with the form and what was imported before."""
    context = {
        "project": project,
        "form": form,
        "too_big": too_big,
        "limit": filesizeformat(settings.MAX_UPLOAD_BYTES),
        "imports": Import.objects.filter(project=project).select_related("created_by")[:LISTED],
        "formats": KNOWN,
    }
    return render(request, "rating/import.html", context, status=status)


@project_view(Role.ADMIN)
def import_file_page(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """One import: its first rows and how to take them, or how far it is, or what became of it."""
    row = get_object_or_404(Import, project=project, pk=pk)
    seen = shown_digest(row)
    if request.htmx and request.GET.get("seen") == seen:
        return HttpResponse(status=204)
    if request.htmx and "seen" in request.GET:
        return render(request, "rating/import_file.html#progress", described(project, row))
    return show_file(request, project, row, request.GET if "format" in request.GET else None)


@project_view(Role.ADMIN)
@require_POST
def start_import(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Put the import into the queue, as the form says."""
    row = get_object_or_404(Import, project=project, pk=pk)
    form = StartForm(preview_of(row, None).columns, request.POST)
    if not form.is_valid():
        return show_file(request, project, row, request.POST, status=422)
    data = form.cleaned_data
    queue_import(
        row,
        format_name=data["format"],
        columns=form.columns,
        keep_good=data["keep_good"],
        dry_run=data["dry_run"],
    )
    return redirect("rating:import_file", slug=project.slug, pk=row.pk)


@project_view(Role.ADMIN)
@require_POST
def stop_import(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Cancel the import; what is stored already stays."""
    row = get_object_or_404(Import, project=project, pk=pk)
    cancel_import(row)
    return redirect("rating:import_file", slug=project.slug, pk=row.pk)


@project_view(Role.ADMIN)
def refused_rows(request: MemberRequest, project: Project, pk: int) -> FileResponse:
    """The rows that were refused, each with its line and the reason, as JSON Lines."""
    row = get_object_or_404(Import, project=project, pk=pk)
    if row.active or not row.refused_path.is_file():
        raise Http404(_("No rows of this import were refused."))
    return FileResponse(
        row.refused_path.open("rb"), as_attachment=True, filename=f"import-{row.pk}-refused.jsonl"
    )


def show_file(
    request: MemberRequest, project: Project, row: Import, data: object, status: int = 200
) -> HttpResponse:
    """The page of one import."""
    context = described(project, row)
    waits = row.state in (Import.State.UPLOADED, Import.State.REFUSED, Import.State.FAILED)
    if waits and row.path.is_file():
        first = preview_of(row, None)
        form = StartForm(first.columns, data, initial={"format": first.recognised or "columns"})
        chosen = form if data is not None and form.is_valid() else None
        context |= {"preview": preview_of(row, chosen) if chosen else first, "form": form}
    return render(request, "rating/import_file.html", context, status=status)


def described(project: Project, row: Import) -> dict[str, object]:
    """How far the import is, and what became of it."""
    return {
        "project": project,
        "row": row,
        "seen": shown_digest(row),
        "progress": progress_of(row),
        "report": ImportReport.from_json(row.report) if row.report and not row.active else None,
        "has_refused": not row.active and row.refused_path.is_file() and row.refused_path.stat().st_size > 0,
    }


def preview_of(row: Import, form: StartForm | None) -> Preview:
    """The first rows as the form says they are to be read, or as they are recognised."""
    if not row.path.is_file():
        return Preview()
    chosen = form.cleaned_data["format"] if form else "auto"
    with row.path.open("rb") as file:
        return look_at(
            file,
            format_name=chosen,
            columns=form.columns if form else None,
            max_bytes=settings.MAX_UPLOAD_BYTES * UNPACKED_FACTOR,
        )
