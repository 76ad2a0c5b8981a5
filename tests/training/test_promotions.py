"""Promotions: append-only, undone one at a time."""

import pytest

from rating.models import ModelVersion
from tests.factories import make_model_version, make_project, make_prompt
from tests.training.test_evaluations import compare
from training.models import Evaluation, Promotion, TrainingRun
from training.services.promotions import (
    PromotionError,
    latest_standing,
    promote_version,
    undo_promotion,
    user_model,
)
from training.services.sampling import request_responses

State = TrainingRun.State


@pytest.fixture
def candidate(project, present) -> ModelVersion:
    """A policy that is not promoted."""
    return make_model_version(project, "policy-1", parent=present)


def test_promoting_with_evidence(project, present, candidate, operator):
    evaluation = compare(project, candidate, present, ["win", "win", "loss"])
    promotion = promote_version(
        project, candidate, user=operator, evaluation=evaluation, reason=" It is warmer. "
    )
    assert user_model(project) == candidate
    assert (promotion.replaced, promotion.decided_by, promotion.reason) == (
        present,
        operator,
        "It is warmer.",
    )
    assert (promotion.evidence["wins"], promotion.evidence["losses"]) == (2, 1)
    evaluation.refresh_from_db()
    assert evaluation.state == Evaluation.State.CLOSED


def test_the_promoted_version_writes_the_next_responses(project, present, candidate, operator):
    make_prompt(project)
    promote_version(project, candidate, user=operator)
    run = TrainingRun.objects.get()
    assert (run.recipe, run.purpose, run.policy) == ("sample", TrainingRun.Purpose.COLLECT, candidate)
    assert (run.settings["samples_per_prompt"], run.settings["limit"]) == (2, 40)


def test_the_replaced_version_writes_no_more(project, present, candidate, operator):
    make_prompt(project)
    queued = request_responses(project, present, count=1)
    promote_version(project, candidate, user=operator)
    queued.refresh_from_db()
    assert queued.state == State.CANCELLED


def test_what_cannot_be_promoted(project, present, candidate):
    other = make_project()
    reward = make_model_version(project, kind=ModelVersion.Kind.REWARD)
    third = make_model_version(project)
    comparison = compare(project, candidate, present, [])
    cases = [
        (present, None, "is the user model already"),
        (reward, None, "only be given a policy"),
        (make_model_version(other), None, "another project"),
        (third, comparison, "did not compare"),
    ]
    for version, evaluation, words in cases:
        with pytest.raises(PromotionError, match=words):
            promote_version(project, version, user=None, evaluation=evaluation)
    assert Promotion.objects.count() == 1


def test_undoing_appends_and_restores(project, present, candidate, operator):
    make_prompt(project)
    promotion = promote_version(project, candidate, user=operator)
    undoing = undo_promotion(promotion, user=operator, reason="It rambles.")
    assert user_model(project) == present
    assert (undoing.undoes, undoing.model_version, undoing.replaced) == (promotion, present, candidate)
    assert undoing.reason == "It rambles."
    assert Promotion.objects.count() == 3
    run = TrainingRun.objects.get()
    assert (run.policy, run.state) == (candidate, State.CANCELLED)


def test_undoing_goes_back_step_by_step(project, present, candidate, operator):
    third = make_model_version(project)
    first = Promotion.objects.get()
    second = promote_version(project, candidate, user=operator)
    newest = promote_version(project, third, user=operator)
    with pytest.raises(PromotionError, match="Only the latest"):
        undo_promotion(second, user=operator)
    undoing = undo_promotion(newest, user=operator)
    assert user_model(project) == candidate
    for spent in (newest, undoing):
        with pytest.raises(PromotionError, match="Only the latest"):
            undo_promotion(spent, user=operator)
    assert latest_standing(project) == second
    undo_promotion(second, user=operator)
    assert user_model(project) == present
    with pytest.raises(PromotionError, match="no user model before"):
        undo_promotion(first, user=operator)
    promote_version(project, third, user=operator)
    assert user_model(project) == third
    assert Promotion.objects.count() == 6
