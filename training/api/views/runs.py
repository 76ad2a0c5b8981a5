"""Runs and triggers: listed, started, followed, cancelled, changed."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rating.api.operations import Scope, created, operation, paged
from rating.api.pages import PageQuery, answer_page, ordered_by
from rating.api.problems import Refused
from rating.models import ModelVersion, Project, Role
from training.api.serializers import (
    EventSerializer,
    NewRun,
    NewTrigger,
    RunSerializer,
    TriggerSerializer,
)
from training.curves import read_curves
from training.models import DatasetSnapshot, RunEvent, TrainingRun, Trigger
from training.services.runs import RunError, check_plan, queue_run, request_cancel
from training.services.snapshots import SnapshotError, freeze_snapshot
from training.services.triggers import TriggerError, save_trigger

OPERATOR = (Role.OPERATOR,)


class RunQuery(PageQuery):
    """Which runs."""

    ordering = ordered_by("number")
    state = serializers.ChoiceField(choices=TrainingRun.State.choices, required=False)
    purpose = serializers.ChoiceField(choices=TrainingRun.Purpose.choices, required=False)
    recipe = serializers.CharField(required=False, max_length=40)


class EventQuery(PageQuery):
    """Which events; in their order."""

    ordering = serializers.ChoiceField(choices=["id", "-id"], default="id")
    since = serializers.IntegerField(
        default=0, min_value=0, max_value=2**63 - 1, help_text="Only those with a greater `id`."
    )
    kind = serializers.CharField(required=False, max_length=20)


class TriggerQuery(PageQuery):
    """A page of triggers."""

    ordering = ordered_by("created")


@operation(paged(RunSerializer), query=RunQuery)
def list_runs(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The runs, newest first."""
    named = {name: query[name] for name in ("state", "purpose", "recipe") if name in query}
    rows = runs_of(project).filter(**named)
    fields = {"number": "number"}
    return answer_page(request, rows, query, lambda rows: RunSerializer(rows, many=True).data, fields)


@operation(
    RunSerializer,
    scope=Scope.TRAIN,
    roles=OPERATOR,
    body=NewRun,
    refuses=(RunError, SnapshotError),
    status=201,
)
def make_run(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Queue a run, freezing a snapshot first unless one is named."""
    recipe, settings = body["recipe"], body["settings"]
    snapshot = find_part(DatasetSnapshot, project, "snapshot", "number", body)
    policy = find_part(ModelVersion, project, "policy", "pk", body)
    after = find_part(TrainingRun, project, "after", "number", body)
    if snapshot is None:
        # Before anything is frozen: a refused run should leave no snapshot behind.
        check_plan(project, [{"recipe": recipe, "settings": settings}])
        snapshot = freeze_snapshot(project, user=request.user)
    run = queue_run(
        project, recipe, settings, snapshot=snapshot, policy=policy, after=after, user=request.user
    )
    return created(RunSerializer(run).data)


@operation(RunSerializer)
def read_run(request: Request, project: Project, number: int) -> Response:
    """A run: its settings, how far it is, how it ended."""
    return Response(RunSerializer(find_run(project, number)).data)


@operation(paged(EventSerializer), query=EventQuery)
def list_events(request: Request, project: Project, number: int, query: dict[str, Any]) -> Response:
    """What the run told, in its order; ask again with `since` to follow it."""
    rows = RunEvent.objects.filter(run=find_run(project, number), pk__gt=query["since"])
    if "kind" in query:
        rows = rows.filter(kind=query["kind"])
    fields = {"id": "pk"}
    return answer_page(request, rows, query, lambda rows: EventSerializer(rows, many=True).data, fields)


@operation(OpenApiTypes.OBJECT)
def read_metrics(request: Request, project: Project, number: int) -> Response:
    """The run's curves: points (step, value) by the name of the metric, thinned where there are many."""
    return Response(read_curves(find_run(project, number)))


@operation(RunSerializer, scope=Scope.TRAIN, roles=OPERATOR)
def cancel_run(request: Request, project: Project, number: int) -> Response:
    """Cancel a queued run, ask a running one to stop after its step; one that ended stays as it is."""
    return Response(RunSerializer(request_cancel(find_run(project, number), request.user)).data)


@operation(paged(TriggerSerializer), query=TriggerQuery)
def list_triggers(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The triggers."""
    rows = Trigger.objects.filter(project=project)
    fields = {"created": "pk"}
    return answer_page(request, rows, query, lambda rows: TriggerSerializer(rows, many=True).data, fields)


@operation(
    TriggerSerializer,
    scope=Scope.TRAIN,
    roles=OPERATOR,
    body=NewTrigger,
    refuses=(TriggerError,),
    status=201,
)
def make_trigger(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """A new trigger; it counts judgments from now on."""
    return created(TriggerSerializer(save_trigger(project, **body)).data)


@operation(TriggerSerializer)
def read_trigger(request: Request, project: Project, pk: int) -> Response:
    """A trigger."""
    return Response(TriggerSerializer(get_object_or_404(Trigger, project=project, pk=pk)).data)


@operation(TriggerSerializer, scope=Scope.TRAIN, roles=OPERATOR, body=NewTrigger, refuses=(TriggerError,))
def change_trigger(request: Request, project: Project, pk: int, body: dict[str, Any]) -> Response:
    """Replace what a trigger says; its counters go on."""
    trigger = get_object_or_404(Trigger, project=project, pk=pk)
    return Response(TriggerSerializer(save_trigger(project, trigger=trigger, **body)).data)


@operation(None, scope=Scope.TRAIN, roles=OPERATOR, status=204)
def drop_trigger(request: Request, project: Project, pk: int) -> Response:
    """Remove a trigger; its runs stay."""
    get_object_or_404(Trigger, project=project, pk=pk).delete()
    return Response(status=204)


def runs_of(project: Project) -> Any:
    """The project's runs with what is told of them."""
    return TrainingRun.objects.filter(project=project).select_related(
        "project", "snapshot", "after", "trigger"
    )


def find_run(project: Project, number: int) -> TrainingRun:
    """The project's run of that number, or 404."""
    return get_object_or_404(runs_of(project), number=number)


def find_part(model: Any, project: Project, name: str, column: str, body: dict[str, Any]) -> Any:
    """What the body names, or None when it names nothing. Raises Refused."""
    if name not in body:
        return None
    found = model.objects.filter(**{"project": project, column: body[name]}).first()
    if found is None:
        raise Refused([(name, f"There is no {name} {body[name]} in this project.")])
    return found
