"""Projects: who may enter which page, what it changes, and what it never touches."""

import pytest
from django.test import Client
from django.urls import reverse

from rating.models import Assignment, Judgment, Membership, Project, Role, User
from rating.services.projects import (
    ProjectError,
    add_member,
    create_project,
    current_guidelines,
    publish_guidelines,
    remove_member,
    update_project,
)
from tests.conftest import signed_in
from tests.factories import (
    make_item,
    make_judgment,
    make_membership,
    make_project,
    make_prompt,
    make_rater,
    make_user,
)

pytestmark = pytest.mark.django_db

SETTINGS = {
    "name": "Renamed",
    "description": "",
    "overlap": 3,
    "queue_strategy": "oldest",
    "lease_seconds": 600,
    "eval_percent": 20,
}


def url(name: str, **kwargs: object) -> str:
    """An address of the demo project."""
    return reverse(f"rating:{name}", kwargs={"slug": "demo", **kwargs})


ENTRY = [
    ("project", "GET", {"rater": 200, "admin": 200, "operator": 200, "outsider": 404}),
    ("settings", "GET", {"rater": 403, "admin": 200, "operator": 403, "outsider": 404}),
    ("settings", "POST", {"rater": 403, "admin": 422, "operator": 403, "outsider": 404}),
    ("publish_guidelines", "POST", {"rater": 403, "admin": 302, "operator": 403, "outsider": 404}),
    ("members", "GET", {"rater": 403, "admin": 200, "operator": 403, "outsider": 404}),
    ("members", "POST", {"rater": 403, "admin": 422, "operator": 403, "outsider": 404}),
    ("remove_member", "POST", {"rater": 403, "admin": 404, "operator": 403, "outsider": 404}),
    ("judge", "GET", {"rater": 200, "admin": 403, "operator": 403, "outsider": 404}),
    ("answer", "POST", {"rater": 404, "admin": 403, "operator": 403, "outsider": 404}),
    ("skip", "POST", {"rater": 404, "admin": 403, "operator": 403, "outsider": 404}),
]


@pytest.mark.parametrize("persona", ["rater", "admin", "operator", "outsider", "nobody"])
@pytest.mark.parametrize(("name", "method", "expected"), ENTRY)
def test_who_may_enter(project, people, persona, name, method, expected):
    kwargs = {"remove_member": {"pk": 999_999}}.get(name, {})
    if name in ("answer", "skip"):
        lease = Assignment.objects.create(
            item=make_item(project),
            rater=make_rater(project),
            order_shown=[],
            expires_at="2030-01-01T00:00Z",
        )
        kwargs = {"assignment": lease.public_id}
    client = signed_in(people[persona]) if persona in people else Client()
    response = client.generic(method, url(name, **kwargs), "", "application/x-www-form-urlencoded")
    if persona == "nobody":
        assert (response.status_code, response.url.split("?")[0]) == (302, reverse("account_login"))
    else:
        assert response.status_code == expected[persona]
    assert Judgment.objects.count() == 0


def test_new_project_needs_the_permission(admin_client, client, db):
    address = reverse("rating:create_project")
    assert admin_client.get(address).status_code == 403
    assert admin_client.post(address, {"name": "x"}).status_code == 403
    assert client.get(address).status_code == 302
    assert not Project.objects.filter(name="x").exists()


def test_sign_in_leads_to_the_projects(db, client):
    make_user("ann", password="a-long-password-1")
    response = client.post(reverse("account_login"), {"login": "ann", "password": "a-long-password-1"})
    assert response.url == reverse("rating:projects")
    assert "No project yet" in client.get(response.url).content.decode()


def test_projects_page_shows_own_projects_only(people):
    page = signed_in(people["rater"]).get(reverse("rating:projects")).content.decode()
    assert reverse("rating:judge", kwargs={"slug": "demo"}) in page
    assert "elsewhere" not in page
    assert url("settings") not in page


@pytest.mark.parametrize("count", [1, 3, 50])
def test_projects_page_takes_constantly_many_queries(db, django_assert_num_queries, count):
    user = make_user()
    for _ in range(count):
        make_item(make_project(user))
    client = signed_in(user)
    with django_assert_num_queries(6):
        assert client.get(reverse("rating:projects")).status_code == 200


@pytest.mark.parametrize("count", [1, 3])
def test_project_page_takes_constantly_many_queries(project, admin_client, django_assert_num_queries, count):
    for _ in range(count):
        make_judgment(make_item(project))
    with django_assert_num_queries(8):
        assert admin_client.get(url("project")).status_code == 200


@pytest.mark.parametrize("count", [1, 3])
def test_members_page_takes_constantly_many_queries(project, admin_client, django_assert_num_queries, count):
    for _ in range(count):
        make_membership(project)
    with django_assert_num_queries(6):
        assert admin_client.get(url("members")).status_code == 200


def test_project_page_counts(project, operator_client):
    item = make_item(project, overlap=2)
    make_item(project)
    make_judgment(item)
    make_judgment(item)
    response = operator_client.get(url("project"))
    counts = response.context["counts"]
    assert (counts.items, counts.judged, counts.open, counts.judgments, counts.raters) == (2, 1, 1, 2, 2)
    assert [bar.count for bar in response.context["bars"]] == [0] * 13 + [2]
    assert "<em>kind</em>" in response.content.decode()


def test_superuser_makes_a_project_and_is_its_admin_and_operator(db):
    boss = make_user("boss", is_superuser=True)
    data = SETTINGS | {"name": "Kind answers", "guidelines": "Be kind.", "slug": ""}
    response = signed_in(boss).post(reverse("rating:create_project"), data)
    project = Project.objects.get()
    assert response.url == reverse("rating:project", kwargs={"slug": "kind-answers"})
    assert (project.overlap, project.lease_seconds) == (3, 600)
    assert set(Membership.objects.values_list("user__username", "role")) == {
        ("boss", "admin"),
        ("boss", "operator"),
    }
    assert current_guidelines(project).text == "Be kind."


@pytest.mark.parametrize("slug", ["new", "demo", "Über", "a b", "-x"])
def test_unfit_address_is_422(project, slug):
    boss = make_user("boss", is_superuser=True)
    response = signed_in(boss).post(reverse("rating:create_project"), SETTINGS | {"slug": slug})
    assert response.status_code == 422
    assert "slug" in response.context["form"].errors
    assert Project.objects.count() == 1


def test_address_is_made_from_the_name(db):
    slugs = [create_project(None, name=name).slug for name in ["Kind", "Kind", "New", "!!!", "x" * 100]]
    assert slugs == ["kind", "kind-2", "new-2", "project", "x" * 50]


@pytest.mark.parametrize("name", ["", "a\x00b", "a\ud800"])
def test_unfit_name(db, name):
    with pytest.raises(ProjectError) as raised:
        create_project(None, name=name)
    assert raised.value.field == "name"


def test_admin_changes_the_settings(project, admin_client):
    assert admin_client.post(url("settings"), SETTINGS).status_code == 302
    project.refresh_from_db()
    assert {
        name: getattr(project, name) for name in ("name", "overlap", "lease_seconds", "eval_percent")
    } == {
        "name": "Renamed",
        "overlap": 3,
        "lease_seconds": 600,
        "eval_percent": 20,
    }
    assert (project.allow_tie, project.allow_both_bad, project.slug) == (True, True, "demo")


@pytest.mark.parametrize(
    "unfit",
    [
        {"overlap": 0},
        {"lease_seconds": 5},
        {"eval_percent": 91},
        {"name": "a\x00b"},
        {"queue_strategy": "best"},
        {"name": " "},
    ],
)
def test_unfit_settings_are_422_and_change_nothing(project, admin_client, unfit):
    response = admin_client.post(url("settings"), SETTINGS | unfit)
    assert response.status_code == 422
    assert "Demo" in response.content.decode()
    project.refresh_from_db()
    assert (project.name, project.overlap) == ("Demo", 1)


def test_held_out_share_is_fixed_by_the_first_prompt(project, admin_client):
    make_prompt(project)
    assert admin_client.post(url("settings"), SETTINGS).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.eval_percent) == ("Renamed", 10)
    with pytest.raises(ProjectError) as raised:
        update_project(project, eval_percent=20)
    assert raised.value.field == "eval_percent"


@pytest.mark.parametrize("scale", [(5, 5), (1, 10), (-1, 5)])
def test_unfit_scale(project, scale):
    with pytest.raises(ProjectError) as raised:
        update_project(project, scale_min=scale[0], scale_max=scale[1])
    assert raised.value.field == "scale_max"


def test_scale_is_fixed_by_the_first_rating(project):
    make_judgment(make_item(project, n=1))
    with pytest.raises(ProjectError, match="already"):
        update_project(project, scale_max=7)


def test_guidelines_are_versioned(project, admin_client, admin):
    assert admin_client.post(url("publish_guidelines"), {"text": "Two.\r\nMore."}).status_code == 302
    assert admin_client.post(url("publish_guidelines"), {"text": "Two.\nMore."}).status_code == 302
    newest = current_guidelines(project)
    assert (newest.number, newest.text, newest.created_by) == (2, "Two.\nMore.", admin)
    assert project.guidelines.get(number=1).text == "Prefer the *kind* response."
    for text in ["a\x00b", "x" * 50_001]:
        assert admin_client.post(url("publish_guidelines"), {"text": text}).status_code == 422
    with pytest.raises(ProjectError):
        publish_guidelines(project, "a\udc00")
    assert project.guidelines.count() == 2


def test_admin_adds_a_member_once(project, admin_client):
    make_user("Zoë")
    for _ in range(2):
        assert admin_client.post(url("members"), {"username": "Zoë", "role": "rater"}).status_code == 302
    assert Membership.objects.filter(project=project, user__username="Zoë").count() == 1


@pytest.mark.parametrize(
    ("username", "role"), [("nobody", "rater"), ("gone", "rater"), ("rater", "owner"), ("a\x00", "rater")]
)
def test_unfit_member_is_422(project, rater, admin_client, username, role):
    make_user("gone", is_active=False)
    before = Membership.objects.count()
    assert admin_client.post(url("members"), {"username": username, "role": role}).status_code == 422
    assert Membership.objects.count() == before


def test_removing_a_rater_keeps_the_judgments(project, admin_client):
    rater = make_rater(project)
    judgment = make_judgment(make_item(project), rater)
    membership = Membership.objects.get(user=rater.user)
    assert admin_client.post(url("remove_member", pk=membership.pk)).status_code == 302
    assert not Membership.objects.filter(user=rater.user).exists()
    assert Judgment.objects.get() == judgment
    assert signed_in(rater.user).get(url("judge")).status_code == 404


def test_member_of_another_project_is_not_found(project, admin_client, outsider):
    theirs = Membership.objects.get(user=outsider)
    assert admin_client.post(url("remove_member", pk=theirs.pk)).status_code == 404
    assert Membership.objects.filter(pk=theirs.pk).exists()


def test_project_keeps_an_admin(project, admin, admin_client):
    own = Membership.objects.get(user=admin)
    page = admin_client.post(url("remove_member", pk=own.pk), follow=True).content.decode()
    assert "at least one admin" in page
    assert Membership.objects.filter(pk=own.pk).exists()
    add_member(project, make_user(), Role.ADMIN)
    assert admin_client.post(url("remove_member", pk=own.pk)).url == reverse("rating:projects")
    with pytest.raises(ProjectError):
        remove_member(Membership.objects.get(project=project, role=Role.ADMIN))


def test_deleting_an_account_keeps_rater_and_judgments(project):
    rater = make_rater(project)
    make_judgment(make_item(project), rater)
    User.objects.get(pk=rater.user_id).delete()
    rater.refresh_from_db()
    assert rater.user is None
    assert Judgment.objects.get().rater == rater
