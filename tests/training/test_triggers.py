"""Triggers: when they are due, that they fire once, what cannot be saved."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from rating.models import Item
from tests.factories import make_item, make_judgment, make_project
from tests.training.conftest import judge_pairs
from training.models import DatasetSnapshot, TrainingRun, Trigger
from training.services.triggers import (
    TriggerError,
    TriggerProgress,
    due_triggers,
    fire_trigger,
    save_trigger,
    trigger_progress,
)

State = TrainingRun.State
PLAN = [{"recipe": "reward", "settings": {}}, {"recipe": "dpo", "settings": {"beta": 0.2}}]


@pytest.fixture
def trigger(project, present) -> Trigger:
    """Every five judgments: a reward model, then DPO."""
    return save_trigger(project, name="Every five", every_judgments=5, plan=PLAN)


def test_it_is_due_after_so_many_new_judgments(project, trigger):
    assert trigger_progress(trigger) == TriggerProgress(0, 5, None)
    judge_pairs(project, 4)
    assert trigger_progress(trigger).new == 4
    assert due_triggers(timezone.now()) == []
    judge_pairs(project, 1, first=4)
    assert due_triggers(timezone.now()) == [trigger]
    runs = fire_trigger(trigger)
    assert [(run.recipe, run.settings, run.trigger) for run in runs] == [
        ("reward", {}, trigger),
        ("dpo", {"beta": 0.2}, trigger),
    ]
    trigger.refresh_from_db()
    assert trigger.judgments_seen == 5
    assert trigger.last_fired_at is not None
    assert trigger_progress(trigger).new == 0


def test_a_new_trigger_counts_from_now_on(project, present):
    judge_pairs(project, 7)
    trigger = save_trigger(project, name="Every five", every_judgments=5, plan=PLAN)
    assert trigger_progress(trigger).new == 0
    assert due_triggers(timezone.now()) == []


def test_judgments_of_evaluations_and_other_projects_do_not_count(project, trigger):
    judge_pairs(make_project(), 6)
    for _ in range(6):
        make_judgment(make_item(project, purpose=Item.Purpose.EVALUATE))
    assert trigger_progress(trigger).new == 0
    assert due_triggers(timezone.now()) == []


def test_it_waits_for_its_own_runs(project, trigger):
    judge_pairs(project, 5)
    fire_trigger(trigger)
    judge_pairs(project, 5, first=5)
    for state in (State.QUEUED, State.RUNNING):
        TrainingRun.objects.update(state=state)
        assert due_triggers(timezone.now()) == []
    TrainingRun.objects.update(state=State.SUCCEEDED)
    assert due_triggers(timezone.now()) == [trigger]


def test_off_and_archived_are_never_due(project, trigger):
    judge_pairs(project, 5)
    Trigger.objects.update(enabled=False)
    assert due_triggers(timezone.now()) == []
    Trigger.objects.update(enabled=True)
    project.archived_at = timezone.now()
    project.save()
    assert due_triggers(timezone.now()) == []


def test_a_schedule_is_due_at_its_time_in_utc(project, present):
    trigger = save_trigger(project, name="Nightly", schedule="0 3 * * *", plan=PLAN)
    Trigger.objects.update(last_fired_at=datetime(2026, 3, 1, 3, 0, tzinfo=UTC))
    trigger.refresh_from_db()
    due_at = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
    assert trigger_progress(trigger).next_time == due_at
    assert due_triggers(due_at - timedelta(seconds=1)) == []
    assert due_triggers(due_at) == [trigger]


def test_a_stale_firing_queues_nothing(project, trigger):
    judge_pairs(project, 5)
    stale = Trigger.objects.get(pk=trigger.pk)
    assert len(fire_trigger(trigger)) == 2
    assert fire_trigger(stale) == []
    assert TrainingRun.objects.count() == 2


def test_two_trainers_fire_once(threaded_db, project, trigger):
    judge_pairs(project, 5)
    fired: list[int] = []
    errors: list[Exception] = []
    start = threading.Barrier(4)

    def fire() -> None:
        try:
            start.wait()
            for due in due_triggers(timezone.now()):
                fired.append(len(fire_trigger(due)))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=fire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(fired) == 2
    assert TrainingRun.objects.count() == 2
    assert DatasetSnapshot.objects.count() == 1


def test_a_firing_in_vain_is_told_by_a_failed_run_and_not_repeated(project, trigger):
    for _ in range(5):
        make_judgment(make_item(project), choice="tie")
    assert due_triggers(timezone.now()) == [trigger]
    (run,) = fire_trigger(trigger)
    assert (run.state, run.recipe, run.error_code) == (State.FAILED, "reward", "bad_data")
    assert "nothing could be queued. There is nothing to freeze" in run.error_message
    assert due_triggers(timezone.now()) == []


def test_a_plan_that_no_longer_fits_is_told_too(project, trigger):
    judge_pairs(project, 5)
    Trigger.objects.update(plan=[{"recipe": "dpo", "settings": {"beta": -1}}])
    trigger.refresh_from_db()
    (run,) = fire_trigger(trigger)
    assert run.state == State.FAILED
    assert "plan[0].beta" in run.error_message
    assert not DatasetSnapshot.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "NUL \x00"}, "name"),
        ({"name": "Every five"}, "name"),
        ({"every_judgments": None}, "every_judgments"),
        ({"every_judgments": 0}, "every_judgments"),
        ({"schedule": "often"}, "schedule"),
        ({"schedule": "0 0 31 2 *"}, "schedule"),
        ({"schedule": "61 * * * *"}, "schedule"),
        ({"schedule": "1," * 60}, "schedule"),
        ({"plan": []}, "plan"),
        ({"plan": [{"recipe": "dpo", "settings": {"beta": -1}}]}, "plan"),
    ],
)
def test_what_cannot_be_saved_names_its_field(project, trigger, changes, field):
    fields = {"name": "Other", "every_judgments": 5, "plan": PLAN, **changes}
    with pytest.raises(TriggerError) as caught:
        save_trigger(project, **fields)
    assert [name for name, _ in caught.value.problems] == [field]
    assert Trigger.objects.count() == 1


def test_changing_a_trigger_leaves_its_counters(project, trigger):
    Trigger.objects.update(judgments_seen=3, last_fired_at=timezone.now())
    saved = save_trigger(
        project,
        name="Every five",
        every_judgments=9,
        schedule="0 3 * * *",
        plan=PLAN[:1],
        enabled=False,
        trigger=trigger,
    )
    saved.refresh_from_db()
    assert (saved.every_judgments, saved.schedule, saved.enabled) == (9, "0 3 * * *", False)
    assert saved.plan == PLAN[:1]
    assert saved.judgments_seen == 3
    assert saved.last_fired_at is not None


def test_queries_do_not_grow_with_triggers(project, present, django_assert_num_queries):
    for number in range(6):
        save_trigger(project, name=f"Trigger {number}", every_judgments=5, plan=PLAN)
    with django_assert_num_queries(2):
        due_triggers(timezone.now())
