"""Which version is the user model: promotions, one after the other, never changed, sometimes undone."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext, override

from rating.models import ModelVersion, Project, Prompt, User, Webhook
from rating.services.audit import record_event
from rating.services.webhooks import announce
from training.models import Evaluation, Promotion, TrainingRun
from training.services.evaluations import close_evaluation, evaluation_result
from training.services.runs import ACTIVE, Purpose, lock_project, request_cancel
from training.services.sampling import request_responses
from training.services.versions import user_model

__all__ = [
    "PromotionError",
    "latest_standing",
    "promote_version",
    "undo_promotion",
    "user_model",
]

PROMPTS_AFTER_PROMOTION = 40


class PromotionError(ValueError):
    """A promotion that cannot be made or undone: which field, and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


@transaction.atomic
def promote_version(
    project: Project,
    version: ModelVersion,
    *,
    user: User | None,
    evaluation: Evaluation | None = None,
    reason: str = "",
    collect: int = PROMPTS_AFTER_PROMOTION,
) -> Promotion:
    """Make the version the user model, and have it answer `collect` prompts that are rated next (0: none).

    The evaluation's figures at this moment are kept as the evidence, and an open evaluation is closed.
    Responses that the replaced version was still to write are cancelled.

    Raises:
        PromotionError: names the field and says what would be right.
    """
    lock_project(project)
    present = user_model(project)
    check_promotion(project, version, present, evaluation)
    with override(None):
        # Kept for good, so in the language of the records, whoever decides.
        evidence = evaluation_result(evaluation).as_evidence() if evaluation else {}
    promotion = Promotion.objects.create(
        project=project,
        model_version=version,
        replaced=present,
        evaluation=evaluation,
        evidence=evidence,
        reason=reason.strip(),
        decided_by=user,
    )
    told = {"version": version.pk, "name": version.name, "replaced": present.pk if present else None}
    announce(project, Webhook.Event.VERSION_PROMOTED, told)
    record_event("version.promoted", project, version.name, reason=promotion.reason)
    if evaluation and evaluation.state == Evaluation.State.OPEN:
        close_evaluation(evaluation)
    if present is not None:
        cancel_responses(present, user)
    if collect and Prompt.objects.filter(project=project).exists():
        request_responses(project, version, count=collect, user=user)
    return promotion


def check_promotion(
    project: Project, version: ModelVersion, present: ModelVersion | None, evaluation: Evaluation | None
) -> None:
    """Refuse a version that cannot be the next user model.

    Raises:
        PromotionError: names the field.
    """
    if version.project_id != project.pk:
        raise PromotionError("version", gettext("is a model version of another project."))
    if version.kind != ModelVersion.Kind.POLICY:
        refused = gettext("%(name)s is a reward model; users can only be given a policy.")
        raise PromotionError("version", refused % {"name": version.name})
    if present is not None and present.pk == version.pk:
        refused = gettext("%(name)s is the user model already.")
        raise PromotionError("version", refused % {"name": version.name})
    if evaluation is not None and version.pk not in (evaluation.candidate_id, evaluation.baseline_id):
        refused = gettext("Evaluation %(number)s did not compare %(name)s.")
        raise PromotionError("evaluation", refused % {"number": evaluation.number, "name": version.name})
    if evaluation is not None and evaluation.project_id != project.pk:
        raise PromotionError("evaluation", gettext("is an evaluation of another project."))


def latest_standing(project: Project) -> Promotion | None:
    """The latest promotion that neither is an undoing nor was undone: the one that can be undone now."""
    return (
        Promotion.objects.filter(project=project, undoes=None, undone_by=None)
        .select_related("model_version", "replaced")
        .first()
    )


@transaction.atomic
def undo_promotion(promotion: Promotion, *, user: User | None, reason: str = "") -> Promotion:
    """Make the version that was replaced the user model again, by a new promotion that says what it undoes.

    Responses that the undone version was still to write are cancelled.

    Raises:
        PromotionError: it is not the latest one that stands, or there was no user model before it.
    """
    project = promotion.project
    lock_project(project)
    latest = latest_standing(project)
    if latest is None or latest.pk != promotion.pk:
        raise PromotionError(
            "promotion", gettext("Only the latest promotion that still stands can be undone.")
        )
    if latest.replaced is None:
        raise PromotionError(
            "promotion", gettext("There was no user model before this one; promote another version.")
        )
    undoing = Promotion.objects.create(
        project=project,
        model_version=latest.replaced,
        replaced=latest.model_version,
        undoes=latest,
        reason=reason.strip(),
        decided_by=user,
    )
    record_event("promotion.undone", project, latest.model_version.name, reason=undoing.reason)
    cancel_responses(latest.model_version, user)
    return undoing


def cancel_responses(version: ModelVersion, user: User | None) -> None:
    """Cancel the responses that a version was still to write: only the user model's are rated next."""
    for run in TrainingRun.objects.filter(purpose=Purpose.COLLECT, policy=version, state__in=ACTIVE):
        request_cancel(run, user)
