"""The model versions of a project as a family: who was made from whom, by which run, and how it fared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.utils.safestring import SafeString

from rating.models import ModelVersion, Project
from training.comparison import draw_win_rate
from training.models import Evaluation, Promotion, TrainingRun
from training.services.evaluations import EvaluationResult, evaluation_result, evaluation_results
from training.services.promotions import latest_standing
from training.services.versions import user_model

DEEPEST = 6


@dataclass
class Member:
    """One model version on the page: its generation, what made it, its evaluations with their figures."""

    version: ModelVersion
    depth: int
    run: TrainingRun | None
    is_user_model: bool
    evaluations: list[tuple[Evaluation, EvaluationResult]] = field(default_factory=list)


@dataclass
class Family:
    """What the page of versions shows."""

    user_model: ModelVersion | None
    members: list[Member]
    promotions: list[Promotion]
    undoable: Promotion | None


def read_family(project: Project) -> Family:
    """All versions with their evaluations and promotions; the number of queries is constant."""
    present = user_model(project)
    versions = list(ModelVersion.objects.filter(project=project).select_related("parent").order_by("pk"))
    runs = {
        run.model_version_id: run
        for run in TrainingRun.objects.filter(project=project, model_version__isnull=False)
    }
    compared = list(
        Evaluation.objects.filter(project=project).select_related("candidate", "baseline").order_by("-pk")
    )
    results = evaluation_results(compared)
    members = []
    for depth, version in order_family(versions):
        member = Member(
            version, depth, runs.get(version.pk), present is not None and present.pk == version.pk
        )
        member.evaluations = [(e, results[e.pk]) for e in compared if e.candidate_id == version.pk]
        members.append(member)
    promotions = Promotion.objects.filter(project=project).select_related(
        "model_version", "replaced", "evaluation", "decided_by", "undoes__model_version"
    )
    return Family(present, members, list(promotions), latest_standing(project))


def order_family(versions: Iterable[ModelVersion]) -> list[tuple[int, ModelVersion]]:
    """(generation, version): children right after their parent, oldest first; at most DEEPEST deep."""
    children: dict[int | None, list[ModelVersion]] = {}
    for version in versions:
        children.setdefault(version.parent_id, []).append(version)
    ordered: list[tuple[int, ModelVersion]] = []
    waiting = [(0, version) for version in reversed(children.get(None, []))]
    while waiting:
        depth, version = waiting.pop()
        ordered.append((depth, version))
        waiting += [(min(depth + 1, DEEPEST), child) for child in reversed(children.get(version.pk, []))]
    return ordered


@dataclass(frozen=True)
class Case:
    """What speaks for promoting a version: its newest evaluation that did not fail, and what came of it."""

    present: ModelVersion | None
    evaluation: Evaluation | None
    result: EvaluationResult | None
    interval: SafeString

    @property
    def decided(self) -> bool:
        """Whether the evaluation has shown that the version is better."""
        return self.result is not None and self.result.decided and self.result.wins > self.result.losses


def read_case(project: Project, version: ModelVersion) -> Case:
    """The evidence for a version as it stands."""
    evaluation = (
        Evaluation.objects.filter(project=project, candidate=version)
        .exclude(state=Evaluation.State.FAILED)
        .select_related("candidate", "baseline")
        .first()
    )
    result = evaluation_result(evaluation) if evaluation else None
    interval = draw_win_rate(result) if result else SafeString("")
    return Case(user_model(project), evaluation, result, interval)
