"""The administration: a page for every table; what raters said is read-only; no list asks row by row."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from rating.models import Answer, Assignment, Import, Judgment, RaterPreferences, Rating, SpanMark, Webhook
from rating.services.tokens import create_token
from rating.services.webhooks import add_webhook, put_up
from tests.conftest import signed_in
from tests.factories import (
    make_dimension,
    make_item,
    make_judgment,
    make_model_version,
    make_project,
    make_question,
    make_rater,
    make_user,
)

pytestmark = pytest.mark.django_db
MODELS = sorted(apps.get_app_config("rating").get_models(), key=lambda model: model.__name__)
LISTED = [model for model in MODELS if model in admin.site._registry]


@pytest.fixture
def boss(db) -> Client:
    """A browser in which a superuser is signed in."""
    return signed_in(make_user("boss", is_superuser=True, is_staff=True))


def fill(rows: int) -> None:
    """Some rows in every table, each with its own project."""
    for _ in range(rows):
        project = make_project(make_user(), guidelines="Be kind.")
        make_dimension(project)
        question = make_question(project)
        version = make_model_version(project, parent=make_model_version(project))
        rater = make_rater(project)
        RaterPreferences.objects.create(user=rater.user)
        put_up(add_webhook(project, "https://example.org/"), project, Webhook.Event.TEST, {})
        create_token(rater.user, name="program", scopes=["read"], days=1, project=project)
        Import.objects.create(project=project, name="rows.jsonl", size=1)
        judgment = make_judgment(make_item(project, n=1, model_version=version), rater)
        Answer.objects.create(judgment=judgment, question=question, value=True)
        completion = judgment.item.completions.get()
        SpanMark.objects.create(judgment=judgment, completion=completion, start=0, end=3, verdict="good")


def test_every_table_has_its_page():
    assert LISTED == MODELS


@pytest.mark.parametrize("model", LISTED, ids=lambda model: model.__name__)
def test_lists_take_constantly_many_queries(boss, model, django_assert_max_num_queries):
    address = reverse(f"admin:rating_{model._meta.model_name}_changelist")
    fill(1)
    with django_assert_max_num_queries(9):
        assert boss.get(address).status_code == 200
    fill(4)
    with django_assert_max_num_queries(9):
        assert boss.get(address, {"q": "1"}).status_code == 200


@pytest.mark.parametrize("model", LISTED, ids=lambda model: model.__name__)
def test_rows_open(boss, model):
    fill(1)
    row = model._default_manager.first()
    address = reverse(f"admin:rating_{model._meta.model_name}_change", args=[row.pk])
    assert boss.get(address).status_code == 200


@pytest.mark.parametrize("model", [Judgment, Rating, Answer, Assignment])
def test_what_raters_said_is_read_only(boss, model):
    fill(1)
    name, row = model._meta.model_name, model._default_manager.first()
    assert boss.get(reverse(f"admin:rating_{name}_add")).status_code == 403
    assert boss.post(reverse(f"admin:rating_{name}_change", args=[row.pk]), {}).status_code == 403
    assert (
        boss.post(reverse(f"admin:rating_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    )
    assert model._default_manager.filter(pk=row.pk).exists()


def test_members_have_no_way_in(admin_client):
    assert admin_client.get(reverse("admin:index")).status_code == 302
