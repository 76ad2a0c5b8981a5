"""Model versions, blind comparisons, promotions, and the user model."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rating.api.operations import Scope, created, operation, paged
from rating.api.pages import PageQuery, answer_page, ordered_by
from rating.api.problems import Refused
from rating.models import ModelVersion, Project
from training.api.serializers import (
    EvaluationSerializer,
    NewEvaluation,
    NewPromotion,
    NewVersion,
    PromotionSerializer,
    Undoing,
    VersionSerializer,
)
from training.api.views.runs import OPERATOR, find_part
from training.family import read_case
from training.models import Evaluation, Promotion
from training.services.evaluations import (
    EvaluationError,
    close_evaluation,
    evaluation_results,
    start_evaluation,
)
from training.services.promotions import PromotionError, promote_version, undo_promotion
from training.services.runs import RunError
from training.services.versions import VersionError, add_base_version, user_model


class VersionQuery(PageQuery):
    """Which versions."""

    ordering = ordered_by("created", "name")
    kind = serializers.ChoiceField(choices=ModelVersion.Kind.choices, required=False)


class EvaluationQuery(PageQuery):
    """Which evaluations."""

    ordering = ordered_by("number")
    state = serializers.ChoiceField(choices=Evaluation.State.choices, required=False)


class PromotionQuery(PageQuery):
    """A page of promotions."""

    ordering = ordered_by("decided")


@operation(paged(VersionSerializer), query=VersionQuery)
def list_versions(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The model versions."""
    rows = ModelVersion.objects.filter(project=project).select_related("made_by")
    if "kind" in query:
        rows = rows.filter(kind=query["kind"])
    fields = {"created": "pk", "name": "name"}
    return answer_page(request, rows, query, lambda rows: VersionSerializer(rows, many=True).data, fields)


@operation(
    VersionSerializer,
    scope=Scope.TRAIN,
    roles=OPERATOR,
    body=NewVersion,
    refuses=(VersionError,),
    status=201,
)
def make_version(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Add a base model from outside: a directory of the server, or the id of a hub model."""
    version = add_base_version(project, body["name"], body["base"], kind=ModelVersion.Kind(body["kind"]))
    return created(VersionSerializer(version).data)


@operation(VersionSerializer)
def read_version(request: Request, project: Project, pk: int) -> Response:
    """A model version."""
    rows = ModelVersion.objects.select_related("made_by")
    return Response(VersionSerializer(get_object_or_404(rows, project=project, pk=pk)).data)


@operation(VersionSerializer)
def read_user_model(request: Request, project: Project) -> Response:
    """The version that users are given now; 404 while there is none."""
    version = user_model(project)
    if version is None:
        raise Http404
    return Response(VersionSerializer(version).data)


@operation(paged(EvaluationSerializer), query=EvaluationQuery)
def list_evaluations(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """The evaluations with their figures."""
    rows = Evaluation.objects.filter(project=project).select_related("candidate", "baseline", "sampling_run")
    if "state" in query:
        rows = rows.filter(state=query["state"])
    return answer_page(request, rows, query, show_evaluations, {"number": "number"})


@operation(
    EvaluationSerializer,
    scope=Scope.TRAIN,
    roles=OPERATOR,
    body=NewEvaluation,
    refuses=(EvaluationError, RunError),
    status=201,
)
def make_evaluation(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Start a blind comparison of a version with the user model, or with the baseline that is named."""
    candidate = find_part(ModelVersion, project, "candidate", "pk", body)
    baseline = find_part(ModelVersion, project, "baseline", "pk", body)
    found = start_evaluation(
        project, candidate, baseline=baseline, prompts=body["prompts"], user=request.user
    )
    return created(show_evaluations([found])[0])


@operation(EvaluationSerializer)
def read_evaluation(request: Request, project: Project, number: int) -> Response:
    """An evaluation with its figures as they stand."""
    return Response(show_evaluations([find_evaluation(project, number)])[0])


@operation(EvaluationSerializer, scope=Scope.TRAIN, roles=OPERATOR, refuses=(EvaluationError,))
def end_evaluation(request: Request, project: Project, number: int) -> Response:
    """Close an open evaluation: what was judged counts, nothing more is handed out."""
    return Response(show_evaluations([close_evaluation(find_evaluation(project, number))])[0])


@operation(paged(PromotionSerializer), query=PromotionQuery)
def list_promotions(request: Request, project: Project, query: dict[str, Any]) -> Response:
    """Which version was the user model since when, decided by whom, and why."""
    rows = Promotion.objects.filter(project=project).select_related("evaluation", "decided_by")
    fields = {"decided": "pk"}
    return answer_page(request, rows, query, lambda rows: PromotionSerializer(rows, many=True).data, fields)


@operation(
    PromotionSerializer,
    scope=Scope.TRAIN,
    roles=OPERATOR,
    body=NewPromotion,
    refuses=(PromotionError, RunError),
    status=201,
)
def make_promotion(request: Request, project: Project, body: dict[str, Any]) -> Response:
    """Make a version the user model; confirm it where no evaluation has decided for it."""
    version = find_part(ModelVersion, project, "version", "pk", body)
    case = read_case(project, version)
    if not case.decided and not body["confirm"]:
        raise Refused(
            [("confirm", _("No evaluation has decided for this version: send true to promote it."))]
        )
    promotion = promote_version(
        project, version, user=request.user, evaluation=case.evaluation, reason=body["reason"]
    )
    return created(PromotionSerializer(promotion).data)


@operation(
    PromotionSerializer,
    scope=Scope.TRAIN,
    roles=OPERATOR,
    body=Undoing,
    refuses=(PromotionError,),
    status=201,
)
def make_undoing(request: Request, project: Project, pk: int, body: dict[str, Any]) -> Response:
    """Make the version that was replaced the user model again, by a promotion that says what it undoes."""
    promotion = get_object_or_404(Promotion.objects.select_related("project"), project=project, pk=pk)
    undone = undo_promotion(promotion, user=request.user, reason=body["reason"])
    return created(PromotionSerializer(undone).data)


def show_evaluations(rows: list[Evaluation]) -> Any:
    """Evaluations as JSON; the figures of all of them take three queries."""
    return EvaluationSerializer(rows, many=True, context={"results": evaluation_results(rows)}).data


def find_evaluation(project: Project, number: int) -> Evaluation:
    """The project's evaluation of that number, or 404."""
    return get_object_or_404(
        Evaluation.objects.select_related("candidate", "baseline", "sampling_run"),
        project=project,
        number=number,
    )
