"""Every route says who may enter it; this walks all of them."""

import uuid

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse

from rating.models import Role
from tests.conftest import signed_in

# For every signed-in account; what they show is filtered by membership.
SIGNED_IN = {"rating:projects", "rating:preferences"}
# For accounts that may create projects.
BY_PERMISSION = {"rating:create_project"}
SAMPLE = {"number": 1, "pk": 1, "assignment": uuid.UUID(int=1), "name": "manifest.json", "user": 1}


def routes() -> dict[str, URLPattern]:
    """The URL patterns of the two apps by their full name."""
    found = {}
    for resolver in get_resolver().url_patterns:
        if getattr(resolver, "namespace", None) in {"rating", "training"}:
            for pattern in resolver.url_patterns:
                found[f"{resolver.namespace}:{pattern.name}"] = pattern
    return found


def in_project() -> list[str]:
    return sorted(set(routes()) - SIGNED_IN - BY_PERMISSION)


def address(name: str, slug: str) -> str:
    """The route's address with made-up numbers."""
    wanted = routes()[name].pattern.converters
    unknown = set(wanted) - set(SAMPLE) - {"slug"}
    assert not unknown, f"{name}: give the test a sample of {unknown}"
    return reverse(name, kwargs={key: slug if key == "slug" else SAMPLE[key] for key in wanted})


def test_the_houses_routes_are_there():
    known = {"rating:judge", "rating:answer", "rating:import", "training:overview", "training:promote"}
    assert known <= set(routes())


@pytest.mark.parametrize("name", in_project())
def test_route_declares_its_roles(name):
    pattern = routes()[name]
    assert "slug" in pattern.pattern.converters
    roles = getattr(pattern.callback, "allowed_roles", None)
    assert roles is not None, f"{name} has no project_view decorator and is on no list here"
    assert all(isinstance(role, Role) for role in roles)


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", sorted(routes()))
def test_anonymous_is_sent_to_sign_in(name, method, project):
    path = address(name, project.slug)
    response = getattr(Client(), method)(path)
    assert response.status_code in {302, 405}
    if response.status_code == 302:
        assert response.headers["Location"] == f"{reverse('account_login')}?next={path}"
    assert Client().get(path).status_code != 200


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", in_project())
def test_outsider_finds_nothing(name, method, project, outsider):
    path = address(name, project.slug)
    assert getattr(signed_in(outsider), method)(path).status_code in {404, 405}
    assert 404 in {signed_in(outsider).get(path).status_code, signed_in(outsider).post(path).status_code}


@pytest.mark.django_db
@pytest.mark.parametrize("name", in_project())
def test_member_without_the_role_is_refused(name, project, people):
    roles = routes()[name].callback.allowed_roles
    for role in set(Role) - set(roles or Role):
        client = signed_in(people[role.value])
        path = address(name, project.slug)
        assert 403 in {client.get(path).status_code, client.post(path).status_code}
        assert {client.get(path).status_code, client.post(path).status_code} <= {403, 405}


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(BY_PERMISSION))
def test_creating_projects_takes_the_permission(name, rater):
    assert signed_in(rater).get(address(name, "")).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(SIGNED_IN))
def test_lists_show_own_projects_only(name, project, outsider):
    response = signed_in(outsider).get(address(name, ""))
    assert response.status_code == 200
    assert f"/projects/{project.slug}/" not in response.content.decode()


@pytest.mark.django_db
def test_sign_up_is_closed():
    before = Client().get(reverse("account_signup"))
    assert before.status_code in {200, 302, 403}
    assert b'name="password1"' not in before.content


@pytest.mark.django_db
def test_admin_pages_are_for_staff(people):
    for user in people.values():
        assert signed_in(user).get("/admin/").status_code == 302
