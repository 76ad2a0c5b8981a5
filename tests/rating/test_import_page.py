"""Importing in the browser: a file is uploaded, looked at, started, and carried out by a worker."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from rating.models import Import, Item, Judgment, Prompt
from rating.services.imports.reports import LineError
from rating.services.imports.worker import ImportWorker
from rating.services.texts import TextError
from tests.rating.imports.files import counts, hh, jsonl, zipped

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def home(settings, tmp_path):
    """Uploads lie in a directory of the test's own."""
    settings.HOME = tmp_path
    return tmp_path


def upload(client, project, data: bytes, name: str = "rows.jsonl", **fields: object):
    """The answer to an upload, after any redirect."""
    fields = {"file": SimpleUploadedFile(name, data), **fields}
    return client.post(reverse("rating:import", args=[project.slug]), fields, follow=True)


def address(name, project, pk=None):
    return reverse(f"rating:{name}", args=[project.slug, pk or Import.objects.latest("pk").pk])


def start(client, project, **fields):
    return client.post(address("start_import", project), fields, follow=True)


def take(client, project, data: bytes, name: str = "rows.jsonl", **fields: object):
    """The page of an import that was carried out."""
    upload(client, project, data, name)
    response = start(client, project, **{"format": "responses", **fields})
    assert response.status_code == 200
    ImportWorker().work(once=True)
    return client.get(address("import_file", project)).content.decode()


def test_who_may_enter(project, admin_client, operator_client, rater_client, outsider_client, client):
    upload(admin_client, project, jsonl({"prompt": "x"}))
    paths = [reverse("rating:import", args=[project.slug]), address("import_file", project)]
    for path in paths:
        for method in ("get", "post"):
            assert getattr(outsider_client, method)(path).status_code == 404
            assert getattr(rater_client, method)(path).status_code == 403
            assert getattr(operator_client, method)(path).status_code == 403
            assert getattr(client, method)(path).url.startswith(reverse("account_login"))
        assert admin_client.get(path).status_code == 200
    for name in ("start_import", "cancel_import"):
        path = address(name, project)
        assert outsider_client.post(path).status_code == 404
        assert rater_client.post(path).status_code == 403
        assert admin_client.get(path).status_code == 405
    assert admin_client.post(paths[0]).status_code == 422
    elsewhere = reverse("rating:import_file", args=["elsewhere", Import.objects.get().pk])
    assert outsider_client.get(elsewhere).status_code == 404


def test_the_first_rows_are_shown_and_nothing_goes_in(project, admin_client):
    data = jsonl(hh("What is **bold**?", "good <b>", "bad"), hh("Q", "x", "x"))
    page = upload(admin_client, project, data, "pairs.jsonl").content.decode()
    assert "<strong>bold</strong>" in page
    assert "good &lt;b&gt;" in page
    assert "preferred" in page
    assert "Both responses are the same" in page
    assert '<option value="hh-rlhf" selected>' in page
    assert Import.objects.get().state == "uploaded"
    assert not any(counts().values())


def test_a_file_goes_in_and_is_reported(project, admin_client):
    rows = [hh("Q", "good", "bad"), hh("Q", "x", "x"), hh("Q", "bad", "good")]
    page = take(admin_client, project, zipped(jsonl(*rows)), "pairs.jsonl.gz", format="hh-rlhf")
    for words in (
        "3 rows: 1 taken, 2 left out",
        "Both responses are the same",
        "judged otherwise",
        "pairs.jsonl.gz",
    ):
        assert words in page
    assert Prompt.objects.get().source == "pairs.jsonl.gz"
    assert counts()["Judgment"] == 1
    row = Import.objects.get()
    assert (row.state, row.path.exists()) == ("succeeded", False)
    assert start(admin_client, project, format="hh-rlhf").status_code == 200
    assert Import.objects.get().state == "succeeded"


def test_a_large_file_is_taken_from_disk(project, admin_client):
    data = jsonl(*[{"prompt": f"Prompt {n} " + "x" * 3000} for n in range(1000)])
    assert len(data) > 2_500_000
    take(admin_client, project, data)
    assert Prompt.objects.count() == 1000


def test_only_checking_keeps_nothing_and_the_file_may_go_in_afterwards(project, admin_client):
    page = take(admin_client, project, jsonl({"prompt": "x"}), dry_run="on")
    assert "nothing was kept" in page
    assert not any(counts().values())
    assert "Show the first rows again" in page
    start(admin_client, project, format="responses")
    ImportWorker().work(once=True)
    assert Prompt.objects.count() == 1


def test_errors_are_listed_by_line_and_the_good_rows_may_go_in(project, admin_client):
    data = jsonl({"prompt": "fine"}, {"prompt": 1}, {"prompt": "x", "metadata": {"<b>": 1.0}, "kind": "<i>"})
    page = take(admin_client, project, data)
    assert "Nothing was imported" in page
    assert "line 2: prompt: expected a text" in page
    assert "line 3: kind: &#x27;&lt;i&gt;&#x27; is unknown" in page
    assert not any(counts().values())
    start(admin_client, project, format="responses", keep_good="on")
    ImportWorker().work(once=True)
    page = admin_client.get(address("import_file", project)).content.decode()
    assert "3 rows: 1 taken, 2 left out" in page
    refused = admin_client.get(address("refused_rows", project))
    told = [json.loads(line) for line in b"".join(refused.streaming_content).splitlines()]
    assert [row["line"] for row in told] == [2, 3]
    assert told[0]["row"] == {"prompt": 1}
    assert "attachment" in refused["Content-Disposition"]


def test_columns_are_named_on_the_page(project, admin_client):
    data = b"question,one,two,best\nWhy?,So.,No.,1\nHow?,Thus.,Not.,tie\n"
    page = upload(admin_client, project, data, "table.csv").content.decode()
    assert "in no format that is known" in page
    fields = {"format": "columns", "prompt": "question", "responses": ["one", "two"], "label": "best"}
    shown = admin_client.get(address("import_file", project), fields).content.decode()
    assert "Thus." in shown
    assert "equally good" in shown
    assert not Prompt.objects.exists()
    refused = start(admin_client, project, format="columns", responses=["one"])
    assert refused.status_code == 422
    assert "name the column that holds the prompt" in refused.content.decode()
    start(admin_client, project, **fields)
    ImportWorker().work(once=True)
    assert Judgment.objects.count() == 2
    assert Item.objects.filter(open_slots=0).count() == 2


def test_a_file_that_cannot_be_read_is_shown_as_such(project, admin_client):
    page = upload(admin_client, project, b"PK\x03\x04 and so on", "rows.zip").content.decode()
    assert "The file cannot be read" in page
    assert "ZIP archive" in page
    page = upload(admin_client, project, b"\xff\xfe\x00", "rows.csv").content.decode()
    assert "UTF-16" in page


@pytest.mark.parametrize(
    "fields", [{"format": "csv"}, {"format": ""}, {"format": "columns", "prompt": "nowhere"}]
)
def test_an_incomplete_form_is_refused(project, admin_client, fields):
    upload(admin_client, project, jsonl({"prompt": "x"}))
    response = start(admin_client, project, **fields)
    assert response.status_code == 422
    assert "errorlist" in response.content.decode()
    assert Import.objects.get().state == "uploaded"


def test_a_file_over_the_limit_is_refused_unread(project, admin_client, settings):
    settings.MAX_UPLOAD_BYTES = 1000
    response = upload(admin_client, project, b"x" * 200_000)
    assert response.status_code == 413
    assert "over 1000" in response.content.decode()
    packed = zipped(jsonl(*[{"prompt": f"x{n}"} for n in range(2000)]))
    settings.MAX_UPLOAD_BYTES = len(packed) // 2
    page = take(admin_client, project, packed)
    assert "when unpacked" in page
    assert not any(counts().values())


def test_the_form_is_protected_against_forgery(project, admin):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    assert upload(client, project, jsonl({"prompt": "x"})).status_code == 403
    assert not Import.objects.exists()
    path = reverse("rating:import", args=[project.slug])
    client.get(path)
    token = client.cookies["csrftoken"].value
    assert upload(client, project, jsonl({"prompt": "x"}), csrfmiddlewaretoken=token).status_code == 200
    assert Import.objects.count() == 1


def test_a_row_names_its_fields_harmlessly(project, admin_client):
    page = take(admin_client, project, jsonl({"prompt": "<script>x</script>", "<script>": 1}), "<b>.jsonl")
    assert "&lt;script&gt;" in page
    assert "Field not imported: <script>" not in page
    assert "&lt;b&gt;.jsonl" in page


def test_half_a_character_is_told_and_breaks_no_page(project, admin_client):
    half = "half \ud800 a name\x00"
    rows = [{"prompt": "x", "metadata": {"<b>": half}, half: 1}, {"prompt": "x", half: 1}]
    shown = upload(admin_client, project, jsonl(*rows))
    assert shown.status_code == 200
    assert shown.context["preview"].columns == ["prompt", "metadata"]
    page = take(admin_client, project, jsonl(*rows), keep_good="on")
    assert r"Field not imported: half \ud800 a name\x00" in page
    assert "metadata.&lt;b&gt;: holds" in page


@pytest.mark.parametrize(
    "error", [TextError("\ud800\x00"), LineError(None, "\ud800\x00")], ids=["text", "line"]
)
def test_errors_tell_of_half_characters_in_whole_ones(error):
    assert str(error) == r"\ud800\x00"


def test_the_progress_asks_again_only_while_it_moves(project, admin_client):
    upload(admin_client, project, jsonl({"prompt": "x"}))
    page = start(admin_client, project, format="responses").content.decode()
    assert "In the queue" in page
    path = address("import_file", project)
    seen = page.split("?seen=")[1].split('"')[0]
    asked = {"seen": seen}
    assert admin_client.get(path, asked, headers={"HX-Request": "true"}).status_code == 204
    ImportWorker().work(once=True)
    region = admin_client.get(path, asked, headers={"HX-Request": "true"}).content.decode()
    assert "1 row: 1 taken, 0 left out" in region
    assert "hx-get" not in region
    assert "<html" not in region


def test_an_import_is_cancelled_before_it_begins(project, admin_client):
    upload(admin_client, project, jsonl({"prompt": "x"}))
    start(admin_client, project, format="responses")
    page = admin_client.post(address("cancel_import", project), follow=True).content.decode()
    assert "Cancelled. Nothing was imported." in page
    ImportWorker().work(once=True)
    assert not any(counts().values())
    assert not Import.objects.get().path.exists()
    assert admin_client.get(address("refused_rows", project)).status_code == 404


def test_lists_ask_a_constant_number_of_queries(project, admin_client, django_assert_num_queries):
    path = reverse("rating:import", args=[project.slug])
    upload(admin_client, project, jsonl({"prompt": "x"}))
    admin_client.get(path)
    with CaptureQueriesContext(connection) as one:
        admin_client.get(path)
    asked = len(one)
    for _ in range(3):
        upload(admin_client, project, jsonl({"prompt": "x"}))
    with django_assert_num_queries(asked):
        admin_client.get(path)


def test_a_full_disk_is_told_in_words(project, admin_client, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    response = upload(admin_client, project, jsonl({"prompt": "x"}))
    assert response.status_code == 507
    assert "No space left on device" in response.content.decode()
    assert not Import.objects.exists()
