"""The snapshot list, the button, the downloads."""

import json

import pytest
from django.urls import reverse

from rating.models import Judgment
from tests.factories import make_item, make_judgment, make_model_version, make_project, make_user
from training.models import DatasetSnapshot, TrainingRun
from training.services.encoding import FILE_KINDS
from training.services.exports import EXPORT_FORMATS, Export, iter_export
from training.services.queries import SnapshotQuery
from training.services.snapshots import DATA_FILES, freeze_snapshot, query_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_directory(settings, tmp_path) -> None:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"


@pytest.fixture
def judged(project):
    project.eval_percent = 0
    project.save()
    make_judgment(make_item(project), choice="a")
    make_judgment(make_item(project), choice="tie")
    return project


def address(view: str, project, **kwargs) -> str:
    return reverse(f"training:{view}", kwargs={"slug": project.slug, **kwargs})


def routes(project) -> list[tuple[str, str]]:
    return [
        ("get", address("snapshots", project)),
        ("get", address("new_snapshot", project)),
        ("get", address("snapshot", project, number=1)),
        ("post", address("freeze_snapshot", project)),
        ("post", address("freeze_without", project, number=1)),
        ("get", address("download_snapshot_file", project, number=1, name="manifest.json")),
        ("get", address("export", project)),
    ]


def test_who_may_enter(judged, admin_client, operator_client, rater_client, outsider_client, client):
    freeze_snapshot(judged)
    for method, path in routes(judged):
        assert getattr(outsider_client, method)(path).status_code == 404
        assert getattr(rater_client, method)(path).status_code == 403
        for member in (admin_client, operator_client):
            response = getattr(member, method)(path)
            assert response.status_code in (200, 302, 422)
            b"".join(response)
        assert getattr(client, method)(path).url.startswith(reverse("account_login"))
    assert operator_client.get(address("freeze_snapshot", judged)).status_code == 405
    assert DatasetSnapshot.objects.count() == 1


def test_an_empty_project_says_so(project, admin_client):
    page = admin_client.get(address("snapshots", project)).content.decode()
    assert "No snapshots yet" in page
    assert "Nobody has rated yet" in page
    refused = admin_client.post(address("freeze_snapshot", project))
    assert refused.status_code == 422
    assert "Rate some items first" in refused.content.decode()
    assert DatasetSnapshot.objects.count() == 0


def test_freezing_shows_the_snapshot(judged, operator_client, operator):
    first = operator_client.post(address("freeze_snapshot", judged), follow=True)
    assert first.redirect_chain == [(address("snapshot", judged, number=1), 302)]
    snapshot = DatasetSnapshot.objects.get()
    assert snapshot.created_by == operator
    page = first.content.decode()
    for words in (
        "Snapshot 1 is frozen",
        "Every judgment, a row for each vote",
        snapshot.content_hash,
        "1 train, 0 eval",
        "nothing was preferred: 1",
    ):
        assert words in page
    assert "preference.train.jsonl" in page
    assert "rating.train.jsonl" not in page
    again = operator_client.post(address("freeze_snapshot", judged), follow=True)
    assert "Snapshot 1 has the same query and the same rows" in again.content.decode()
    assert DatasetSnapshot.objects.count() == 1


def test_files_are_downloaded_by_name(judged, admin_client):
    snapshot = freeze_snapshot(judged)
    for name in (*DATA_FILES, "manifest.json"):
        response = admin_client.get(address("download_snapshot_file", judged, number=1, name=name))
        assert b"".join(response.streaming_content) == (snapshot.directory / name).read_bytes()
        assert response.headers["Content-Disposition"] == f'attachment; filename="demo-1-{name}"'


@pytest.mark.parametrize(
    "name",
    ["..", "../manifest.json", "..%2Fmanifest.json", "%2Fetc%2Fpasswd", "other.jsonl", "manifest.json%00"],
)
def test_no_other_path_is_opened(judged, admin_client, name):
    freeze_snapshot(judged)
    path = address("snapshots", judged) + "1/" + name
    assert admin_client.get(path).status_code == 404


def test_other_projects_snapshots_and_lost_files_are_not_found(judged, admin_client):
    other = make_project()
    other.eval_percent = 0
    other.save()
    make_judgment(make_item(other))
    freeze_snapshot(other)
    path = address("download_snapshot_file", judged, number=1, name="manifest.json")
    assert admin_client.get(path).status_code == 404
    snapshot = freeze_snapshot(judged)
    response = admin_client.get(path)
    assert response.status_code == 200
    b"".join(response)
    (snapshot.directory / "manifest.json").unlink()
    assert admin_client.get(path).status_code == 404


@pytest.mark.parametrize("fmt", EXPORT_FORMATS)
def test_exports_are_streamed(judged, admin_client, fmt):
    response = admin_client.get(address("export", judged), {"format": fmt})
    assert response.streaming
    assert response.headers["Content-Disposition"] == f'attachment; filename="demo-{fmt}.jsonl"'
    assert b"".join(response.streaming_content) == b"".join(iter_export(Export(judged, fmt)))


def test_an_export_of_one_part(judged, operator_client):
    response = operator_client.get(address("export", judged), {"format": "sft", "split": "train"})
    (line,) = response.streaming_content
    assert json.loads(line)["completion"][0]["role"] == "assistant"
    assert "demo-sft-train.jsonl" in response.headers["Content-Disposition"]


@pytest.mark.parametrize("query", [{"format": "csv"}, {"format": "sft", "split": "x"}, {"format": "\x00"}])
def test_an_unknown_export_is_refused_in_words(judged, admin_client, query):
    response = admin_client.get(address("export", judged), query)
    assert response.status_code == 422
    assert "is unknown; use" in response.content.decode()


def test_pages_of_snapshots_ask_a_constant_number_of_queries(
    judged, admin_client, django_assert_max_num_queries
):
    for number in range(3):
        make_judgment(make_item(judged))
        assert freeze_snapshot(judged).number == number + 1
        with django_assert_max_num_queries(10):
            assert admin_client.get(address("snapshots", judged)).status_code == 200


def test_hostile_names_are_harmless(judged, admin_client):
    freeze_snapshot(judged, user=make_user("<script>"))
    for path in (address("snapshots", judged), address("snapshot", judged, number=1)):
        assert "<script>" not in admin_client.get(path).content.decode().split("<main")[1]


def test_the_form_counts_what_it_would_give(judged, admin_client):
    page = admin_client.get(address("new_snapshot", judged)).content.decode()
    assert "<strong>2</strong> rows from <strong>2</strong> judgments" in " ".join(page.split())
    kept = admin_client.get(address("new_snapshot", judged), {"ties": "keep"}, headers={"HX-Request": "true"})
    part = " ".join(kept.content.decode().split())
    assert "<strong>4</strong> rows from <strong>2</strong> judgments" in part
    assert "Preferences: 3; examples: 1" in part
    assert "<html" not in part
    wrong = admin_client.get(
        address("new_snapshot", judged), {"min_agreement": "200"}, headers={"HX-Request": "true"}
    )
    assert "less than or equal to 100" in wrong.content.decode()


def test_a_large_project_is_counted_by_a_sample(project, admin_client, monkeypatch):
    monkeypatch.setattr("training.services.counting.SAMPLE", 2)
    for _ in range(6):
        make_judgment(make_item(project), choice="a")
    page = " ".join(admin_client.get(address("new_snapshot", project)).content.decode().split())
    assert "<strong>12</strong> rows from <strong>6</strong> judgments" in page
    assert "projected from the first" in page


def test_a_query_is_frozen_from_the_form(judged, admin_client):
    asked = {"rows": "soft", "weights": "reliability", "ties": "keep", "margin": "large"}
    response = admin_client.post(
        address("freeze_snapshot", judged), asked | {"min_agreement": "50"}, follow=True
    )
    snapshot = DatasetSnapshot.objects.get()
    assert query_of(snapshot).choices == asked | {"min_agreement": 0.5}
    page = response.content.decode()
    assert "A row with a soft label" in page
    assert "50%" in page
    again = admin_client.get(address("new_snapshot", judged), {"from": "1"}).content.decode()
    assert '<option value="soft" selected>' in again
    assert 'name="min_agreement" value="50"' in again


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"weights": "reliability"}, "choose the rows majority or soft"),
        ({"since": "2026-02-02", "until": "2026-01-01"}, "give a later day"),
        ({"raters": "R-NOBODY"}, "R-NOBODY is not one of the available choices"),
        ({"max_per_rater": "0"}, "greater than or equal to 1"),
        ({"since": "\x00"}, "Enter a valid date"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused_at_its_field(judged, admin_client, asked, words):
    response = admin_client.post(address("freeze_snapshot", judged), asked)
    assert response.status_code == 422
    assert words in response.content.decode()
    assert DatasetSnapshot.objects.count() == 0


def test_the_same_without_a_rater(judged, admin_client):
    first = freeze_snapshot(judged)
    make_judgment(make_item(judged), choice="b")
    page = admin_client.get(address("snapshot", judged, number=1)).content.decode()
    (only,) = first.counts["card"]["raters"]
    assert f"The same without {only['rater']}" in page
    idle = Judgment.objects.order_by("pk")[1].rater.pseudonym  # gave the tie alone
    path = address("freeze_without", judged, number=1)
    response = admin_client.post(path, {"rater": idle}, follow=True)
    second = DatasetSnapshot.objects.get(number=2)
    assert query_of(second).choices == {"without_raters": [idle]}
    assert query_of(second).up_to == query_of(first).up_to
    assert set(second.judgments.all()) == set(first.judgments.all())
    assert "Snapshot 2 is frozen" in response.content.decode()
    for wrong in ({}, {"rater": "R-NOBODY"}, {"rater": "\x00"}):
        assert admin_client.post(path, wrong).status_code == 422
    emptied = admin_client.post(path, {"rater": only["rater"]})
    assert emptied.status_code == 422
    assert "There is nothing to freeze" in emptied.content.decode()


def test_the_page_of_a_snapshot_says_what_was_made_from_it(judged, admin_client):
    snapshot = freeze_snapshot(judged)
    page = admin_client.get(address("snapshot", judged, number=1)).content.decode()
    assert "No run has learned from it yet" in page
    assert "There is no other snapshot yet" in page
    assert "All of it is the taste of one rater." in page
    version = make_model_version(judged, "better one")
    TrainingRun.objects.create(
        project=judged, number=1, recipe="dpo", snapshot=snapshot, model_version=version, state="succeeded"
    )
    page = admin_client.get(address("snapshot", judged, number=1)).content.decode()
    assert "better one" in page


def test_two_snapshots_are_compared(judged, admin_client):
    freeze_snapshot(judged)
    newcomer = make_judgment(make_item(judged), choice="b")
    freeze_snapshot(judged, SnapshotQuery(margin="small"))
    page = admin_client.get(address("snapshot", judged, number=2), {"against": "1"}).content.decode()
    assert "1 added, 0 removed" in page
    assert newcomer.rater.pseudonym in page
    assert "<code>margin</code>" in page
    (DatasetSnapshot.objects.get(number=1).directory / "sft.train.jsonl").unlink()
    page = admin_client.get(address("snapshot", judged, number=2), {"against": "1"})
    assert "is gone from the disk" in page.content.decode()
    for odd in ("99", "x", "", "9" * 30):
        assert admin_client.get(address("snapshot", judged, number=2), {"against": odd}).status_code == 200


def test_a_snapshot_from_before_there_were_cards_has_its_page(judged, admin_client):
    snapshot = freeze_snapshot(judged)
    counts = {name: snapshot.counts[name] for name in ("rows", "judgments", "left_out")}
    DatasetSnapshot.objects.update(counts=counts, query={"up_to": None, "scale": [1, 5]})
    assert admin_client.get(address("snapshot", judged, number=1)).status_code == 200
    assert admin_client.get(address("snapshots", judged)).status_code == 200


@pytest.mark.parametrize("file", FILE_KINDS)
def test_a_snapshot_is_exported_as_each_kind_of_file(judged, operator_client, file):
    snapshot = freeze_snapshot(judged)
    asked = {"format": "sft", "snapshot": "1", "file": file, "gzip": "1"}
    response = operator_client.get(address("export", judged), asked)
    export = Export(judged, "sft", snapshot=snapshot, file=file, compressed=True)
    assert b"".join(response.streaming_content) == b"".join(iter_export(export))
    assert export.name in response.headers["Content-Disposition"]
    for odd in ("7", "x", "\x00"):
        assert operator_client.get(address("export", judged), asked | {"snapshot": odd}).status_code == 404


def test_the_page_of_a_snapshot_asks_a_constant_number_of_queries(
    judged, admin_client, django_assert_max_num_queries
):
    for number in range(1, 4):
        make_judgment(make_item(judged))
        freeze_snapshot(judged)
        with django_assert_max_num_queries(14):
            assert admin_client.get(address("snapshot", judged, number=number)).status_code == 200
