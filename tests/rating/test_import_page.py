"""Importing in the browser."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from rating.models import Prompt
from tests.rating.imports.files import counts, hh, jsonl, zipped

pytestmark = pytest.mark.django_db


def post(client, project, data: bytes, name: str = "rows.jsonl", **fields: object):
    fields = {"format": "auto", "file": SimpleUploadedFile(name, data), **fields}
    return client.post(reverse("rating:import", args=[project.slug]), fields)


def test_who_may_enter(project, admin_client, operator_client, rater_client, outsider_client, client):
    path = reverse("rating:import", args=[project.slug])
    for method in ("get", "post"):
        assert getattr(outsider_client, method)(path).status_code == 404
        assert getattr(rater_client, method)(path).status_code == 403
        assert getattr(operator_client, method)(path).status_code == 403
        assert getattr(client, method)(path).url.startswith(reverse("account_login"))
    page = admin_client.get(path)
    assert page.status_code == 200
    assert 'enctype="multipart/form-data"' in page.content.decode()
    assert admin_client.post(path).status_code == 422


def test_a_file_goes_in_and_is_reported(project, admin_client):
    rows = [hh("Q", "good", "bad"), hh("Q", "x", "x"), hh("Q", "bad", "good")]
    response = post(admin_client, project, zipped(jsonl(*rows)), "pairs.jsonl.gz")
    page = response.content.decode()
    assert response.status_code == 200
    for words in (
        "3 rows: 1 taken, 2 left out",
        "Both responses are the same",
        "judged otherwise",
        "pairs.jsonl.gz",
    ):
        assert words in page
    assert Prompt.objects.get().source == "pairs.jsonl.gz"
    assert counts()["Judgment"] == 1


def test_a_large_file_is_taken_from_disk(project, admin_client):
    data = jsonl(*[{"prompt": f"Prompt {n} " + "x" * 3000} for n in range(1000)])
    assert len(data) > 2_500_000
    assert post(admin_client, project, data).status_code == 200
    assert Prompt.objects.count() == 1000


def test_only_checking_keeps_nothing(project, admin_client):
    response = post(admin_client, project, jsonl({"prompt": "x"}), dry_run="on")
    assert "nothing was kept" in response.content.decode()
    assert not any(counts().values())


def test_errors_are_listed_by_line(project, admin_client):
    data = jsonl(
        {"prompt": "fine"}, {"prompt": 1}, {"prompt": "x", "metadata": {"<b>": float("1e5")}, "kind": "<i>"}
    )
    response = post(admin_client, project, data)
    page = response.content.decode()
    assert response.status_code == 422
    assert "Nothing was imported" in page
    assert "line 2: prompt: expected a text" in page
    assert "line 3: kind: &#x27;&lt;i&gt;&#x27; is unknown" in page
    assert not any(counts().values())


@pytest.mark.parametrize("fields", [{"file": ""}, {"format": "csv"}, {"format": ""}])
def test_an_incomplete_form_is_refused(project, admin_client, fields):
    response = post(admin_client, project, jsonl({"prompt": "x"}), **fields)
    assert response.status_code == 422
    assert "errorlist" in response.content.decode()
    assert not any(counts().values())


def test_a_file_over_the_limit_is_refused_unread(project, admin_client, settings):
    settings.MAX_UPLOAD_BYTES = 1000
    response = post(admin_client, project, b"x" * 200_000)
    assert response.status_code == 413
    assert "over 1000" in response.content.decode()
    packed = zipped(jsonl(*[{"prompt": f"x{n}"} for n in range(2000)]))
    settings.MAX_UPLOAD_BYTES = len(packed) // 2
    response = post(admin_client, project, packed)
    assert response.status_code == 422
    assert "when unpacked" in response.content.decode()
    assert not any(counts().values())


def test_the_form_is_protected_against_forgery(project, admin):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    assert post(client, project, jsonl({"prompt": "x"})).status_code == 403
    assert not any(counts().values())
    path = reverse("rating:import", args=[project.slug])
    client.get(path)
    token = client.cookies["csrftoken"].value
    assert post(client, project, jsonl({"prompt": "x"}), csrfmiddlewaretoken=token).status_code == 200
    assert counts()["Prompt"] == 1


def test_a_row_names_its_fields_harmlessly(project, admin_client):
    response = post(admin_client, project, jsonl({"prompt": "x", "<script>": 1}))
    assert "&lt;script&gt;" in response.content.decode()
    assert "Field not imported: <script>" not in response.content.decode()
