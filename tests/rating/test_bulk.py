"""Rows in bulk are the rows that one by one would have been."""

import uuid

import pytest
from django.db import IntegrityError, connection, transaction
from django.forms.models import model_to_dict
from django.utils import timezone

from rating.models import Completion, Item, Judgment, Prompt
from rating.services.bulk import insert_rows
from tests.factories import completions_of, make_item, make_prompt, make_rater

pytestmark = pytest.mark.django_db


def test_ids_come_in_order_and_the_next_plain_row_gets_a_free_one(project):
    prompt = make_prompt(project)
    rows = [(prompt.pk, f"text {n}", f"{n:064d}", "") for n in range(10)]
    first = insert_rows(Completion, ("prompt_id", "text", "text_hash", "source_model"), rows)
    second = insert_rows(Completion, ("prompt_id", "text", "text_hash"), [(prompt.pk, "last", "x" * 64)])
    plain = Completion.objects.create(prompt=prompt, text="plain", text_hash="y" * 64)
    assert len({*first, *second, plain.pk}) == 12
    assert [Completion.objects.get(pk=pk).text for pk in first] == [f"text {n}" for n in range(10)]
    assert insert_rows(Completion, ("prompt_id", "text", "text_hash"), []) == []


def test_every_field_is_what_the_model_would_have_made_of_it(project):
    item, rater, now = make_item(project), make_rater(project), timezone.now()
    preferred = completions_of(item)[1]
    public_id, key = uuid.uuid4(), uuid.uuid4()
    fields = ("public_id", "item_id", "rater_id", "idempotency_key", "choice", "preferred_id", "judged_at")
    row = (public_id, item.pk, rater.pk, key, "b", preferred.pk, now)
    (pk,) = insert_rows(Judgment, fields, [row])
    stored = Judgment.objects.get(pk=pk)
    expected = Judgment(
        pk=pk, item=item, rater=rater, idempotency_key=key, choice="b", preferred=preferred, judged_at=now
    )
    assert model_to_dict(stored) == model_to_dict(expected)
    assert (stored.public_id, stored.judged_at, stored.flags, stored.ranking) == (public_id, now, [], None)
    assert Judgment.objects.filter(ranking__isnull=True, flags=[]).get() == stored
    assert abs((timezone.now() - stored.created_at).total_seconds()) < 60


def test_json_is_found_again_by_the_database(project):
    messages = [{"role": "user", "content": "Zürich \U0001f600 \\ \t\n \x07"}]
    fields = ("project_id", "messages", "text_hash", "split", "metadata")
    insert_rows(Prompt, fields, [(project.pk, messages, "h" * 64, "train", {"a": 1.5})])
    prompt = Prompt.objects.get(messages=messages)
    assert (prompt.messages, prompt.metadata, prompt.source) == (messages, {"a": 1.5}, "")
    assert Prompt.objects.get(metadata__a=1.5) == prompt


def test_the_databases_constraints_hold(project):
    prompt = make_prompt(project)
    row = (prompt.pk, "text", "h" * 64, "")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_rows(Completion, ("prompt_id", "text", "text_hash", "source_model"), [row, row])
    assert Completion.objects.count() == 0
    fields = ("project_id", "prompt_id", "content_hash", "queue_key", "overlap", "open_slots")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_rows(Item, fields, [(project.pk, prompt.pk, "h", 0.5, 1, -1)])
    with transaction.atomic():
        insert_rows(Completion, ("prompt_id", "text", "text_hash"), [(prompt.pk + 999, "text", "h" * 64)])
        with pytest.raises(IntegrityError):
            connection.check_constraints()
        transaction.set_rollback(True)


def test_a_field_that_must_differ_is_asked_for(project):
    item, rater = make_item(project), make_rater(project)
    with pytest.raises(ValueError, match="public_id: differs from row to row"):
        insert_rows(Judgment, ("item_id", "rater_id"), [(item.pk, rater.pk)])
