"""Importing a file in the browser."""

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from rating.access import MemberRequest, project_view
from rating.models import Project, Role
from rating.services.imports import ImportFailed, import_file

# What a packed upload may unpack to, as a multiple of what may be uploaded.
UNPACKED_FACTOR = 8
FORM_BYTES = 100_000


class ImportForm(forms.Form):
    """A file, what is in it, and whether to keep it."""

    file = forms.FileField(label="File", help_text="JSONL, plain or packed with gzip.")
    format = forms.ChoiceField(
        label="Format",
        choices=[
            ("auto", "Find out from the first row"),
            ("responses", "Prompts, with or without responses"),
            ("hh-rlhf", "HH-RLHF transcripts, already judged"),
        ],
        initial="auto",
    )
    dry_run = forms.BooleanField(
        label="Only check the file", help_text="Reports what would happen and keeps nothing.", required=False
    )


# Checking the CSRF token reads the whole upload, so `receive` does it, once role and size are known.
@project_view(Role.ADMIN)
@csrf_exempt
def import_page(request: MemberRequest, project: Project) -> HttpResponseBase:
    """The form; on POST the report of what went in and what was left out, or 422 with the errors by line."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > settings.MAX_UPLOAD_BYTES + FORM_BYTES:
        limit = filesizeformat(settings.MAX_UPLOAD_BYTES)
        too_big = f"The file is over {limit}. Split it, or import it by manage.py import_data."
        return show(request, project, ImportForm(), {"too_big": too_big}, status=413)
    return receive(request, project)


@csrf_protect
def receive(request: MemberRequest, project: Project) -> HttpResponse:
    """Import the uploaded file from where the server put it: a large one is never in memory."""
    if request.method != "POST":
        return show(request, project, ImportForm(), {})
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return show(request, project, form, {}, status=422)
    upload: UploadedFile = form.cleaned_data["file"]
    name = upload.name or ""
    assert upload.file is not None
    try:
        report = import_file(
            project,
            upload.file,  # type: ignore[arg-type]  # always binary here
            format=form.cleaned_data["format"],
            source=name,
            dry_run=form.cleaned_data["dry_run"],
            max_bytes=settings.MAX_UPLOAD_BYTES * UNPACKED_FACTOR,
        )
    except ImportFailed as failed:
        return show(request, project, form, {"failed": failed, "name": name}, status=422)
    return show(request, project, ImportForm(), {"report": report, "name": name})


def show(
    request: MemberRequest, project: Project, form: ImportForm, outcome: dict[str, object], status: int = 200
) -> HttpResponse:
    """The page with the form and what became of the last upload."""
    context = {
        "project": project,
        "form": form,
        "limit": filesizeformat(settings.MAX_UPLOAD_BYTES),
        **outcome,
    }
    return render(request, "rating/import.html", context, status=status)
