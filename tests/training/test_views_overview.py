"""The overview says where the wheel stands, and asks again only while something moves."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from tests.factories import make_item, make_judgment
from tests.training.rows import make_curve, make_evaluation, make_rival, make_run, seen_in
from training.models import Trigger
from training.services.triggers import save_trigger
from training.services.workers import worker_name, write_heartbeat

PLAN = [{"recipe": "reward", "settings": {}}]


@pytest.fixture
def path(project):
    return reverse("training:overview", args=[project.slug])


def text_of(client, path):
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def test_an_empty_project_says_what_to_do_next(operator_client, path):
    html = text_of(operator_client, path)
    assert "There is no user model yet" in html
    assert "No triggers" in html
    assert "No runs yet" in html
    assert "python manage.py trainer" in html
    assert "hx-trigger" not in html


def test_it_shows_the_user_model_and_why(operator_client, path, present):
    html = text_of(operator_client, path)
    assert "base" in html
    assert "The first one." in html


def test_the_trigger_counts_down(operator_client, path, project):
    save_trigger(project, name="Every 4", every_judgments=4, plan=PLAN)
    for _ in range(3):
        make_judgment(make_item(project))
    html = text_of(operator_client, path)
    assert "3 of 4 new judgments" in html
    assert "1 to go" in html
    assert 'hx-trigger="every 10s"' in html
    make_judgment(make_item(project))
    html = text_of(operator_client, path)
    assert "4 of 4 new judgments" in html
    assert 'hx-trigger="every 2s"' in html


def test_a_trigger_that_is_off_is_not_waited_for(operator_client, path, project):
    save_trigger(project, name="Every 4", every_judgments=4, plan=PLAN, enabled=False)
    html = text_of(operator_client, path)
    assert "off: does not fire" in html
    assert "hx-trigger" not in html


def test_a_schedule_says_when(operator_client, path, project):
    trigger = save_trigger(project, name="Nightly", schedule="0 3 * * *", plan=PLAN)
    Trigger.objects.filter(pk=trigger.pk).update(last_fired_at=timezone.now() - timedelta(days=3))
    html = text_of(operator_client, path)
    assert "03:00 UTC" in html
    assert 'hx-trigger="every 2s"' in html


def test_the_trainers_heartbeat_is_seen(operator_client, path):
    assert "No trainer is running" in text_of(operator_client, path)
    write_heartbeat(worker_name())
    html = text_of(operator_client, path)
    assert "No trainer is running" not in html
    assert "looks for work every few seconds" in html


def test_a_running_run_has_progress_and_the_time_left(operator_client, path, project):
    run = make_run(project, "running", step=10, total_steps=40)
    make_curve(run, 10)
    html = text_of(operator_client, path)
    assert "Step 10 of 40" in html
    assert "about 30 s left" in html
    assert "so nothing moves" in html


def test_an_open_evaluation_shows_the_win_rate_so_far(operator_client, path, project, present):
    make_evaluation(project, make_rival(project), present, wins=3, losses=1, unjudged=2)
    html = text_of(operator_client, path)
    assert "4 of 6 judged" in html
    assert "win rate 75.0%" in html


def test_a_poll_gets_the_region_and_204_when_nothing_changed(operator_client, path, project):
    run = make_run(project, "running", step=1, total_steps=4)
    headers = {"HX-Request": "true"}
    first = operator_client.get(path, headers=headers)
    assert b"<html" not in first.content
    seen = seen_in(first.content)
    assert operator_client.get(f"{path}?seen={seen}", headers=headers).status_code == 204
    run.step = 2
    run.save()
    changed = operator_client.get(f"{path}?seen={seen}", headers=headers)
    assert changed.status_code == 200
    assert b"Step 2 of 4" in changed.content


@pytest.mark.parametrize("page", ["overview", "runs"])
def test_queries_do_not_grow_with_the_runs(
    operator_client, project, present, page, django_assert_num_queries, django_assert_max_num_queries
):
    address = reverse(f"training:{page}", args=[project.slug])
    make_run(project, "running", step=1, total_steps=4, policy=present)
    with django_assert_max_num_queries(25) as first:
        operator_client.get(address)
    for _ in range(2):
        make_run(project, "running", step=1, total_steps=4, policy=make_rival(project, str(timezone.now())))
    cache.clear()
    with django_assert_num_queries(len(first)):
        operator_client.get(address)


def test_the_list_of_runs_has_pages(operator_client, project):
    for _ in range(51):
        make_run(project, "succeeded")
    path = reverse("training:runs", args=[project.slug])
    assert "Page 1 of 2" in text_of(operator_client, path)
    assert "Page 2 of 2" in text_of(operator_client, f"{path}?page=2")
    assert "Page 2 of 2" in text_of(operator_client, f"{path}?page=99")
    assert "Page 1 of 2" in text_of(operator_client, f"{path}?page=x")
