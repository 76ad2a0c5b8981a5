"""Queueing and cancelling."""

import pytest

from rating.models import ModelVersion
from tests.factories import make_model_version, make_project
from tests.training.conftest import judge_pairs
from training.models import DatasetSnapshot, TrainingRun
from training.services.runs import (
    RunError,
    cancel_followers,
    queue_plan,
    queue_run,
    request_cancel,
    settable_fields,
)
from training.services.snapshots import SnapshotError

State = TrainingRun.State


@pytest.mark.parametrize(
    ("recipe", "chosen", "field", "words"),
    [
        ("dpo", {"beta": -1}, "beta", "greater than 0"),
        ("dpo", {"betta": 1}, "betta", "did you mean beta?"),
        ("dpo", {"train": {"kind": "lora", "r": 0}}, "train.r", "greater than or equal to 1"),
        ("dpo", {"model": "/etc"}, "model", "filled in"),
        ("dpo", {"output": "../.."}, "output", "filled in"),
        ("sft", {"probes": {"prompts": "x"}}, "probes.prompts", "filled in"),
        ("sft", {"probes": {"count": 0}}, "probes.count", "greater than or equal to 1"),
        ("magic", {}, "recipe", "must be one of sft, reward, "),
        ("dpo", [1], "settings", "object"),
        ("dpo", {"train": {"kind": "lora", "targets": ["q\x00"]}}, "settings", "NUL"),
        ("dpo", {"beta": float("nan")}, "beta", "finite"),
        ("ppo", {"rollout_batch_size": 10, "minibatch_size": 4}, "minibatch_size", "divide"),
        ("ppo", {}, "reward_model", "run the recipe `reward` first"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_stored(
    project, present, snapshot, recipe, chosen, field, words
):
    with pytest.raises(RunError) as caught:
        queue_run(project, recipe, chosen, snapshot=snapshot)
    assert [name for name, _ in caught.value.problems] == [field]
    assert words in caught.value.problems[0][1]
    assert not TrainingRun.objects.exists()


def test_parts_must_fit(project, present, snapshot):
    other = make_project()
    reward = make_model_version(project, kind=ModelVersion.Kind.REWARD)
    strange = make_model_version(other)
    cases = [
        ({"policy": strange, "snapshot": snapshot}, "policy"),
        ({"policy": reward, "snapshot": snapshot}, "policy"),
        ({"snapshot": None}, "snapshot"),
        ({"purpose": TrainingRun.Purpose.COLLECT}, "recipe"),
    ]
    for parts, field in cases:
        with pytest.raises(RunError) as caught:
            queue_run(project, "sft", {}, **parts)
        assert caught.value.problems[0][0] == field
    with pytest.raises(RunError, match="no user model yet"):
        queue_run(other, "sft", {}, policy=None, snapshot=None)
    assert not TrainingRun.objects.exists()


def test_runs_are_numbered_per_project(project, present, snapshot, operator):
    first = queue_run(project, "sft", {"epochs": 1}, snapshot=snapshot, user=operator)
    second = queue_run(project, "dpo", {"probes": None}, snapshot=snapshot)
    assert (first.number, second.number) == (1, 2)
    assert first.state == State.QUEUED
    assert first.policy == present
    assert first.created_by == operator
    assert first.settings == {"epochs": 1}


def test_a_plan_freezes_one_snapshot_and_chains(project, present):
    judge_pairs(project, 30)
    runs = queue_plan(
        project,
        [{"recipe": "reward", "settings": {}}, {"recipe": "ppo"}, {"recipe": "sample", "settings": {}}],
    )
    assert [run.recipe for run in runs] == ["reward", "ppo", "sample"]
    assert [run.after for run in runs] == [None, runs[0], runs[1]]
    assert {run.snapshot for run in runs} == {DatasetSnapshot.objects.get()}


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ([], "plan"),
        ("reward", "plan"),
        ([{"recipe": "reward"}] * 21, "plan"),
        (["reward"], "plan[0]"),
        ([{"recipe": "reward", "setings": {}}], "plan[0]"),
        ([{"recipe": "reward"}, {"recipe": "dpo", "settings": {"beta": "much"}}], "plan[1].beta"),
        ([{"recipe": "ppo"}, {"recipe": "reward"}], "plan[0].reward_model"),
    ],
)
def test_a_bad_plan_names_its_step_and_stores_nothing(project, present, plan, field):
    judge_pairs(project, 5)
    with pytest.raises(RunError) as caught:
        queue_plan(project, plan)
    assert [name for name, _ in caught.value.problems] == [field]
    assert not TrainingRun.objects.exists()
    assert not DatasetSnapshot.objects.exists()


def test_a_plan_needs_judgments_and_a_user_model(project, base):
    with pytest.raises(RunError, match="no user model yet"):
        queue_plan(project, [{"recipe": "reward"}])
    from training.services.promotions import promote_version

    promote_version(project, base, user=None, collect=0)
    with pytest.raises(SnapshotError, match="nothing to freeze"):
        queue_plan(project, [{"recipe": "reward"}])
    assert not TrainingRun.objects.exists()


def test_cancelling_a_queued_run_cancels_its_followers(project, present, operator):
    judge_pairs(project, 10)
    runs = queue_plan(project, [{"recipe": "reward"}, {"recipe": "dpo"}, {"recipe": "ppo"}])
    run = request_cancel(runs[0], operator)
    assert run.state == State.CANCELLED
    assert run.error_message == "Cancelled by operator before it started."
    for follower in runs[1:]:
        follower.refresh_from_db()
        assert follower.state == State.CANCELLED
        assert follower.ended_at is not None
    assert runs[1].error_message == "Run 1 (reward), which this one follows, was cancelled."
    assert runs[2].error_message == "Run 2 (dpo), which this one follows, was cancelled."
    assert cancel_followers() == 0


def test_cancelling_a_running_run_only_asks(project, present, snapshot, operator):
    run = queue_run(project, "sft", {}, snapshot=snapshot)
    TrainingRun.objects.filter(pk=run.pk).update(state=State.RUNNING, attempt=1)
    asked = request_cancel(run, operator)
    assert asked.state == State.RUNNING
    assert asked.cancel_requested_at is not None
    again = request_cancel(run, operator)
    assert again.cancel_requested_at == asked.cancel_requested_at


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_a_run_that_ended_cannot_be_cancelled(project, present, snapshot, operator, state):
    run = queue_run(project, "sft", {}, snapshot=snapshot)
    TrainingRun.objects.filter(pk=run.pk).update(state=state)
    assert request_cancel(run, operator).state == state
    assert run.cancel_requested_at is None


def test_settable_fields_leave_out_what_is_prepared():
    fields = settable_fields("ppo")
    assert "kl_coefficient" in fields
    assert "probes" in fields
    assert not {"model", "data", "reward_model", "recipe", "version", "output"} & set(fields)
    with pytest.raises(RunError, match="unknown"):
        settable_fields("magic")
