"""Making and changing triggers: bad values are refused at their field."""

import json

import pytest
from django.urls import reverse

from training.models import Trigger
from training.services.triggers import save_trigger

PLAN = [{"recipe": "reward", "settings": {"epochs": 3.0}}, {"recipe": "dpo", "settings": {}}]


def data(**changes):
    return {
        "name": "Every 40",
        "enabled": "on",
        "every_judgments": "40",
        "schedule": "",
        "plan": json.dumps(PLAN),
    } | changes


@pytest.fixture
def path(project):
    return reverse("training:new_trigger", args=[project.slug])


def test_make_one(operator_client, path, project):
    response = operator_client.post(path, data(schedule="0 3 * * *"))
    assert response.headers["Location"] == reverse("training:overview", args=[project.slug])
    trigger = Trigger.objects.get()
    assert (trigger.name, trigger.enabled, trigger.every_judgments) == ("Every 40", True, 40)
    assert (trigger.schedule, trigger.plan) == ("0 3 * * *", PLAN)


def test_change_one(operator_client, project):
    trigger = save_trigger(project, name="Old", every_judgments=5, plan=PLAN)
    path = reverse("training:edit_trigger", args=[project.slug, trigger.pk])
    html = operator_client.get(path).content.decode()
    assert "0 of 5 new judgments" in html
    changed = data(name="New")
    del changed["enabled"]
    assert operator_client.post(path, changed).status_code == 302
    trigger.refresh_from_db()
    assert (trigger.name, trigger.enabled, trigger.every_judgments) == ("New", False, 40)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": ""}, "name", "required"),
        ({"every_judgments": "0"}, "every_judgments", "greater than or equal to 1"),
        ({"every_judgments": "x"}, "every_judgments", "whole number"),
        ({"every_judgments": ""}, "every_judgments", "give a schedule"),
        ({"schedule": "at noon"}, "schedule", "cron"),
        ({"schedule": "0 0 30 2 *"}, "schedule", "cron"),
        ({"plan": ""}, "plan", "required"),
        ({"plan": "{"}, "plan", "not JSON"),
        ({"plan": "[" * 50_000}, "plan", "not JSON"),
        ({"plan": "{}"}, "plan", "list of steps"),
        ({"plan": "[]"}, "plan", "list of steps"),
        ({"plan": '["dpo"]'}, "plan", "Step 1"),
        ({"plan": '[{"recipe": "dance"}]'}, "plan", "Step 1, recipe"),
        (
            {"plan": '[{"recipe": "reward"}, {"recipe": "dpo", "settings": {"beta": -1}}]'},
            "plan",
            "Step 2, beta",
        ),
        ({"plan": '[{"recipe": "dpo", "settings": {"model": "x"}}]'}, "plan", "Step 1, model"),
        ({"plan": '[{"recipe": "dpo", "settings": []}]'}, "plan", "Step 1, settings"),
        ({"plan": '[{"recipe": "ppo", "settings": {}}]'}, "plan", "Step 1, reward_model"),
    ],
)
def test_bad_values_are_refused_at_their_field(operator_client, path, changes, field, words):
    response = operator_client.post(path, data(**changes))
    assert response.status_code == 422
    errors = response.context["form"].errors
    assert list(errors) == [field]
    assert words in str(errors[field].as_text())
    assert not Trigger.objects.exists()


def test_a_name_is_used_once(operator_client, path, project):
    save_trigger(project, name="Every 40", every_judgments=5, plan=PLAN)
    response = operator_client.post(path, data())
    assert response.status_code == 422
    assert list(response.context["form"].errors) == ["name"]


def test_the_example_is_a_plan_that_is_taken(operator_client, path):
    example = operator_client.get(path).context["form"]["plan"].value()
    assert operator_client.post(path, data(plan=example)).status_code == 302
