"""The snapshot list, the button, the downloads."""

import json

import pytest
from django.urls import reverse

from tests.factories import make_item, make_judgment, make_project, make_user
from training.models import DatasetSnapshot
from training.services.exports import EXPORT_FORMATS, Export, iter_export
from training.services.snapshots import DATA_FILES, freeze_snapshot

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
        ("post", address("freeze_snapshot", project)),
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
            assert response.status_code in (200, 302)
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
    assert first.redirect_chain == [(address("snapshots", judged), 302)]
    snapshot = DatasetSnapshot.objects.get()
    assert snapshot.created_by == operator
    page = first.content.decode()
    for words in (
        "Snapshot 1 is frozen",
        snapshot.content_hash,
        "1 train, 0 eval",
        "nothing was preferred: 1",
    ):
        assert words in page
    assert "preference.train.jsonl" in page
    assert "rating.train.jsonl" not in page
    again = operator_client.post(address("freeze_snapshot", judged), follow=True)
    assert "Nothing has changed since snapshot 1" in again.content.decode()
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
    assert "<script>" not in admin_client.get(address("snapshots", judged)).content.decode().split("<main")[1]
