"""Snapshots: what was frozen, what differs, and every format to take away."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.http import FileResponse, Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rating.api.operations import Scope, created, operation, paged
from rating.api.pages import PageQuery, answer_page, ordered_by
from rating.api.problems import Refused
from rating.api.serializers import MOST, StrictSerializer
from rating.models import Project, Split
from training.api.serializers import DifferenceSerializer, NewSnapshot, SnapshotSerializer
from training.models import DatasetSnapshot
from training.services.differences import compare_snapshots
from training.services.encoding import FILE_KINDS
from training.services.exports import EXPORT_FORMATS, Export, ExportError, iter_export
from training.services.queries import QueryError, read_query
from training.services.snapshots import DATA_FILES, MANIFEST, QUERY, SnapshotError, freeze_snapshot

GONE = "The file is gone from the disk: freeze a new snapshot."


class NumberedQuery(PageQuery):
    """A page of what is numbered."""

    ordering = ordered_by("number")


class DifferenceQuery(StrictSerializer):
    """Compared with which."""

    against = serializers.IntegerField(min_value=1, max_value=MOST, help_text="The earlier one's number.")


class ExportQuery(StrictSerializer):
    """Which dataset, and as which file."""

    format = serializers.ChoiceField(choices=list(EXPORT_FORMATS), default="trl-preference")
    split = serializers.ChoiceField(choices=Split.choices, required=False)
    file = serializers.ChoiceField(choices=list(FILE_KINDS), default="jsonl")
    gzip = serializers.BooleanField(default=False)


@operation(paged(SnapshotSerializer), query=NumberedQuery)
def list_snapshots(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The snapshots, newest first."""
    rows = DatasetSnapshot.objects.filter(project=project)
    fields = {"number": "number"}
    return answer_page(request, rows, query, lambda rows: SnapshotSerializer(rows, many=True).data, fields)


@operation(
    SnapshotSerializer,
    scope=Scope.WRITE,
    body=NewSnapshot,
    refuses=(QueryError, SnapshotError),
    status=201,
)
def make_snapshot(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Freeze what the query lets in; the same query of the same rows answers with the same snapshot."""
    query = read_query(project, body["query"])
    return created(SnapshotSerializer(freeze_snapshot(project, query, user=request.user)).data)


@operation(SnapshotSerializer)
def read_snapshot(request: Request, project: Project, number: int) -> Response:
    """A snapshot with its query and its counts."""
    return Response(SnapshotSerializer(find_snapshot(project, number)).data)


@operation(OpenApiTypes.OBJECT)
def read_card(request: Request, project: Project, number: int) -> Response:
    """The data card: what is in the snapshot, who judged, how far they agree."""
    return Response(find_snapshot(project, number).counts.get("card", {}))


@operation(OpenApiTypes.OBJECT)
def read_manifest(request: Request, project: Project, number: int) -> Response:
    """manifest.json: the files with their hashes, and every judgment."""
    path = find_snapshot(project, number).directory / MANIFEST
    try:
        return Response(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise Http404(GONE) from None


@operation(DifferenceSerializer, query=DifferenceQuery)
def read_difference(request: Request, project: Project, number: int, query: dict[str, Any]) -> Response:
    """What differs from another snapshot: choices, judgments, raters and rows."""
    before, after = find_snapshot(project, query["against"]), find_snapshot(project, number)
    try:
        found = compare_snapshots(before, after)
    except OSError as error:
        raise Refused([("against", _("The files of one of them are gone from the disk."))]) from error
    choices = [dict(zip(("field", "before", "after"), one, strict=True)) for one in found.choices]
    rows = [asdict(one) for one in found.rows]
    return Response(DifferenceSerializer({**vars(found), "choices": choices, "rows": rows}).data)


@operation(OpenApiTypes.BINARY)
def download_file(request: Request, project: Project, number: int, name: str) -> HttpResponseBase:
    """One of the snapshot's files as they lie: manifest.json, query.json or its rows."""
    found = find_snapshot(project, number)
    if name not in (MANIFEST, QUERY, *DATA_FILES):
        raise Http404
    try:
        file = (found.directory / name).open("rb")
    except FileNotFoundError:
        raise Http404(GONE) from None
    kind = "application/json" if name in (MANIFEST, QUERY) else "application/x-ndjson"
    told = f"{project.slug}-{number}-{name}"
    return FileResponse(file, as_attachment=True, filename=told, content_type=kind)


@operation(OpenApiTypes.BINARY, query=ExportQuery, refuses=(ExportError,))
def download_snapshot(
    request: Request, project: Project, number: int, query: dict[str, Any]
) -> HttpResponseBase:
    """A dataset of the snapshot in a format to take away, streamed."""
    return stream(project, query, find_snapshot(project, number))


@operation(OpenApiTypes.BINARY, query=ExportQuery, refuses=(ExportError,))
def download_export(request: Request, project: Project, query: dict[str, Any]) -> HttpResponseBase:
    """A dataset of the judgments as they are now, streamed."""
    return stream(project, query, None)


def stream(project: Project, query: dict[str, Any], snapshot: DatasetSnapshot | None) -> HttpResponseBase:
    """The file in pieces. Raises ExportError before the first."""
    wanted = Export(
        project,
        query["format"],
        split=query.get("split"),
        snapshot=snapshot,
        file=query["file"],
        compressed=query["gzip"],
    )
    headers = {"Content-Disposition": f'attachment; filename="{wanted.name}"'}
    return StreamingHttpResponse(iter_export(wanted), content_type=wanted.content_type, headers=headers)


def find_snapshot(project: Project, number: int) -> DatasetSnapshot:
    """The project's snapshot of that number, or 404."""
    return get_object_or_404(DatasetSnapshot, project=project, number=number)
