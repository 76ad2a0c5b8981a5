"""Who may enter the training rooms, and that what changes something is a POST."""

import pytest
from django.urls import reverse

from tests.conftest import signed_in
from tests.training.rows import make_evaluation, make_rival, make_run
from training.models import Promotion, Trigger

READ = ("overview", "runs", "run", "run_progress", "run_log", "versions", "evaluation")
CHANGE = ("new_run", "promote", "new_trigger", "edit_trigger")
POST_ONLY = (
    "cancel_run",
    "add_version",
    "start_evaluation",
    "write_responses",
    "undo_promotion",
    "close_evaluation",
)


@pytest.fixture
def addresses(project, present):
    """Every page of the operator's rooms, with rows behind each."""
    rival = make_rival(project)
    run = make_run(project, "succeeded")
    run.directory.mkdir(parents=True)
    (run.directory / "log.txt").write_text("a line\n")
    make_evaluation(project, rival, present, wins=1)
    trigger = Trigger.objects.create(project=project, name="t", every_judgments=5, plan=[])
    keys = {
        "run": {"number": run.number},
        "run_progress": {"number": run.number},
        "run_log": {"number": run.number},
        "cancel_run": {"number": run.number},
        "evaluation": {"number": 1},
        "close_evaluation": {"number": 1},
        "promote": {"pk": rival.pk},
        "start_evaluation": {"pk": rival.pk},
        "write_responses": {"pk": rival.pk},
        "undo_promotion": {"pk": Promotion.objects.get().pk},
        "edit_trigger": {"pk": trigger.pk},
    }
    return {
        name: reverse(f"training:{name}", kwargs={"slug": project.slug, **keys.get(name, {})})
        for name in (*READ, *CHANGE, *POST_ONLY)
    }


@pytest.mark.parametrize("name", READ)
def test_operator_and_admin_read(addresses, people, name):
    for person in ("operator", "admin"):
        response = signed_in(people[person]).get(addresses[name])
        assert response.status_code == (302 if name == "run_progress" else 200)
    assert signed_in(people["rater"]).get(addresses[name]).status_code == 403
    assert signed_in(people["outsider"]).get(addresses[name]).status_code == 404


@pytest.mark.parametrize("name", CHANGE)
def test_only_the_operator_changes(addresses, people, name):
    assert signed_in(people["operator"]).get(addresses[name]).status_code == 200
    for method in ("get", "post"):
        assert getattr(signed_in(people["admin"]), method)(addresses[name]).status_code == 403
        assert getattr(signed_in(people["rater"]), method)(addresses[name]).status_code == 403
        assert getattr(signed_in(people["outsider"]), method)(addresses[name]).status_code == 404


@pytest.mark.parametrize("name", POST_ONLY)
def test_actions_are_posts_of_the_operator(addresses, people, name):
    assert signed_in(people["operator"]).get(addresses[name]).status_code == 405
    assert signed_in(people["admin"]).post(addresses[name]).status_code == 403
    assert signed_in(people["rater"]).post(addresses[name]).status_code == 403
    assert signed_in(people["outsider"]).post(addresses[name]).status_code == 404


def test_another_projects_rows_are_not_found(addresses, people, project, other_project_rows):
    client = signed_in(people["operator"])
    run, evaluation, version, trigger = other_project_rows
    for path in (
        reverse("training:run", args=[project.slug, run.number]),
        reverse("training:run_log", args=[project.slug, run.number]),
        reverse("training:evaluation", args=[project.slug, evaluation.number]),
        reverse("training:promote", args=[project.slug, version.pk]),
        reverse("training:edit_trigger", args=[project.slug, trigger.pk]),
    ):
        assert client.get(path).status_code == 404
    assert client.post(reverse("training:cancel_run", args=[project.slug, run.number])).status_code == 404
    run.refresh_from_db()
    assert run.state == "queued"


@pytest.fixture
def other_project_rows(outsider):
    """Rows of another project, with numbers that this project has not reached."""
    other = outsider.memberships.get().project
    for _ in range(4):
        run = make_run(other)
    version, baseline = make_rival(other, "theirs"), make_rival(other, "their base")
    make_evaluation(other, version, baseline)
    evaluation = make_evaluation(other, baseline, version)
    return run, evaluation, version, Trigger.objects.create(project=other, name="t", every_judgments=5)


def test_pages_offer_the_admin_nothing_to_change(addresses, people):
    client = signed_in(people["admin"])
    for name in READ:
        response = client.get(addresses[name])
        if response.status_code == 200 and not response.streaming:
            html = response.content.decode()
            for change in (*CHANGE, *POST_ONLY):
                assert f'"{addresses[change]}"' not in html, (name, change)
