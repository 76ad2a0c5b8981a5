"""Imports, prompts, items, raters and judgments."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rating.api.operations import Scope, created, operation, paged
from rating.api.pages import PageQuery, answer_page, ordered_by
from rating.api.parsing import TooLarge, check_value
from rating.api.problems import Refused
from rating.api.serializers import (
    MOST,
    ImportSerializer,
    ItemSerializer,
    JudgmentSerializer,
    PromptSerializer,
    RaterSerializer,
    StrictSerializer,
)
from rating.models import Import, Item, Judgment, Project, Prompt, Rater, Role, Split
from rating.services.imports.formats import KNOWN
from rating.services.imports.formats.columns import NAME as COLUMNS
from rating.services.imports.formats.columns import Columns
from rating.services.imports.jobs import cancel_import, queue_import, receive_upload
from rating.services.texts import TextError, check_text

ADMIN = (Role.ADMIN,)
FORM_BYTES = 100_000
FORMATS = ("auto", COLUMNS, *(known.name for known in KNOWN))
"""What a file may be taken for."""


class CreatedQuery(PageQuery):
    """A page, newest first."""

    ordering = ordered_by("created")


class ItemQuery(CreatedQuery):
    """Which items."""

    purpose = serializers.ChoiceField(choices=Item.Purpose.choices, required=False)
    prompt = serializers.IntegerField(required=False, min_value=1, max_value=MOST)


class PromptQuery(CreatedQuery):
    """Which prompts."""

    split = serializers.ChoiceField(choices=Split.choices, required=False)


class JudgmentQuery(CreatedQuery):
    """Which judgments."""

    ordering = ordered_by("created", "judged")
    rater = serializers.CharField(required=False, max_length=12, help_text="A pseudonym.")
    since = serializers.DateTimeField(required=False, help_text="Judged then or later.")
    until = serializers.DateTimeField(required=False, help_text="Judged before that.")
    purpose = serializers.ChoiceField(choices=Item.Purpose.choices, required=False)
    superseded = serializers.BooleanField(default=False, help_text="Those that were revised as well.")


class ImportQuery(CreatedQuery):
    """Which imports."""

    state = serializers.ChoiceField(choices=Import.State.choices, required=False)


class ColumnsSerializer(StrictSerializer):
    """Which column of a table is what, for the format `columns`."""

    prompt = serializers.CharField(max_length=200)
    responses = serializers.ListField(child=serializers.CharField(max_length=200), required=False)
    chosen = serializers.CharField(max_length=200, required=False)
    rejected = serializers.CharField(max_length=200, required=False)
    label = serializers.CharField(max_length=200, required=False)
    model = serializers.CharField(max_length=200, required=False)
    rater = serializers.CharField(max_length=200, required=False)


class Upload(StrictSerializer):
    """A file, and how it is to be taken."""

    file = serializers.FileField(max_length=200, allow_empty_file=True)
    format = serializers.ChoiceField(choices=FORMATS, default="auto")
    keep_good = serializers.BooleanField(default=False)
    dry_run = serializers.BooleanField(default=False)
    columns = serializers.JSONField(
        required=False, help_text='For the format `columns`, as `{"prompt": "question", "responses": ["a"]}`.'
    )


@operation(paged(PromptSerializer), query=PromptQuery)
def list_prompts(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The prompts."""
    rows = Prompt.objects.filter(project=project)
    if "split" in query:
        rows = rows.filter(split=query["split"])
    return by_creation(request, rows, query, PromptSerializer)


@operation(paged(ItemSerializer), query=ItemQuery)
def list_items(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The items with their responses; which model wrote one is not told."""
    named = {name: query[name] for name in ("purpose", "prompt") if name in query}
    rows = Item.objects.filter(project=project, **named).select_related("prompt")
    return by_creation(request, rows.prefetch_related("places__completion"), query, ItemSerializer)


@operation(paged(RaterSerializer), query=CreatedQuery)
def list_raters(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The raters by their pseudonyms, with how much they judged."""
    in_force = Q(judgments__superseded_by__isnull=True)
    rows = Rater.objects.filter(project=project).annotate(judged=Count("judgments", filter=in_force))
    return by_creation(request, rows, query, RaterSerializer)


@operation(paged(JudgmentSerializer), query=JudgmentQuery)
def list_judgments(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """What was said; without those that a revision took the place of."""
    rows = Judgment.objects.of_project(project.pk)
    if not query["superseded"]:
        rows = rows.in_force()
    columns = {
        "rater": "rater__pseudonym",
        "since": "judged_at__gte",
        "until": "judged_at__lt",
        "purpose": "item__purpose",
    }
    rows = rows.filter(**{column: query[name] for name, column in columns.items() if name in query})
    rows = rows.select_related("item", "rater", "guidelines", "supersedes")
    rows = rows.prefetch_related("ratings__dimension", "answers__question", "span_marks")
    fields = {"created": "pk", "judged": "judged_at"}
    return answer_page(request, rows, query, lambda rows: JudgmentSerializer(rows, many=True).data, fields)


@operation(paged(ImportSerializer), roles=ADMIN, query=ImportQuery)
def list_imports(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The files that were uploaded, and what became of them."""
    rows = Import.objects.filter(project=project)
    if "state" in query:
        rows = rows.filter(state=query["state"])
    return by_creation(request, rows, query, ImportSerializer)


def check_size(request: Request) -> None:
    """Refuse an upload before it is read. Raises TooLarge."""
    length = str(request.META.get("CONTENT_LENGTH") or "0")
    if not length.isdecimal() or int(length) > settings.MAX_UPLOAD_BYTES + FORM_BYTES:
        raise TooLarge(_("The file is over %(limit)s bytes.") % {"limit": settings.MAX_UPLOAD_BYTES})


@operation(
    ImportSerializer,
    scope=Scope.WRITE,
    roles=ADMIN,
    body=Upload,
    upload=True,
    refuses=(TextError,),
    before=check_size,
    status=201,
)
def make_import(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Upload a file and put it into the queue, as multipart/form-data; read the import to see its end."""
    check_text(body["file"].name or "", "file")
    columns = read_columns(body)
    try:
        row = receive_upload(project, body["file"], request.user)
    except OSError as error:
        words = _("The file could not be kept on the server: %(reason)s.")
        raise Refused([("file", words % {"reason": error.strerror or error})]) from error
    queue_import(
        row,
        format_name=body["format"],
        columns=columns,
        keep_good=body["keep_good"],
        dry_run=body["dry_run"],
    )
    row.refresh_from_db()
    return created(ImportSerializer(row).data)


def read_columns(body: dict[str, Any]) -> Columns | None:
    """The columns that were named by hand. Raises ValidationError, Refused."""
    if body["format"] != COLUMNS:
        return None
    data = body.get("columns", {})
    check_value(data, "columns", 0)
    serializer = ColumnsSerializer(data=data)
    if not serializer.is_valid():
        raise serializers.ValidationError({"columns": serializer.errors})
    named = dict(serializer.validated_data)
    columns = Columns(responses=tuple(named.pop("responses", ())), **named)
    try:
        columns.check()
    except ValueError as error:
        raise Refused([("columns", str(error))]) from error
    return columns


@operation(ImportSerializer, roles=ADMIN)
def read_import(request: Request, project: Project, pk: int) -> Response:
    """How far an import is, what went in, what was left out and why."""
    return Response(ImportSerializer(get_object_or_404(Import, project=project, pk=pk)).data)


@operation(ImportSerializer, scope=Scope.WRITE, roles=ADMIN)
def stop_import(request: Request, project: Project, pk: int) -> Response:
    """Cancel an import; what is stored already stays."""
    row = get_object_or_404(Import, project=project, pk=pk)
    cancel_import(row)
    row.refresh_from_db()
    return Response(ImportSerializer(row).data)


def by_creation(request: Request, rows: Any, query: dict[str, Any], kind: Any) -> Response:
    """A page of rows in the order in which they were made."""
    return answer_page(request, rows, query, lambda rows: kind(rows, many=True).data, {"created": "pk"})
