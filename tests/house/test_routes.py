"""Every route says who may enter it; this walks all of them."""

import uuid

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse

from rating.api.operations import Operation
from rating.models import ApiToken, Role
from rating.services.tokens import create_token
from tests.api import problem_of, program
from tests.conftest import signed_in

# For every signed-in account; what they show is filtered by membership.
SIGNED_IN = {"rating:projects", "rating:preferences", "rating:tokens"}
# For the account whose they are.
OWN = {"rating:revoke_token"}
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
    return sorted(set(routes()) - SIGNED_IN - OWN - BY_PERMISSION)


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
def test_tokens_are_their_accounts_own(admin, operator):
    token, _text = create_token(admin, name="mine", scopes=["read"], days=1)
    path = reverse("rating:revoke_token", kwargs={"pk": token.pk})
    assert signed_in(operator).post(path).status_code == 404
    assert signed_in(admin).get(path).status_code == 405
    assert signed_in(admin).post(path).status_code == 302
    assert ApiToken.objects.filter(revoked_at=None).count() == 0


@pytest.mark.django_db
def test_sign_up_is_closed():
    before = Client().get(reverse("account_signup"))
    assert before.status_code in {200, 302, 403}
    assert b'name="password1"' not in before.content


@pytest.mark.django_db
def test_admin_pages_are_for_staff(people):
    for user in people.values():
        assert signed_in(user).get("/admin/").status_code == 302


def operations() -> list[tuple[str, str]]:
    """The name of each address of the API with each of its methods."""
    found = []
    for name, pattern in api_routes().items():
        found += [(name, method) for method in pattern.callback.cls.operations]
    return sorted(found)


def api_routes() -> dict[str, URLPattern]:
    """The URL patterns of both APIs by their full name."""
    (api,) = (one for one in get_resolver().url_patterns if str(one.pattern) == "api/")
    both = [one for one in api.url_patterns if getattr(one, "namespace", None)]
    return {f"{one.namespace}:{pattern.name}": pattern for one in both for pattern in one.url_patterns}


def operation(name: str, method: str) -> Operation:
    found: Operation = api_routes()[name].callback.cls.operations[method]
    return found


def ask(client: Client, name: str, method: str, slug: str) -> HttpResponse:
    """A request with an empty body."""
    converters = api_routes()[name].pattern.converters
    named = {key: slug if key == "slug" else SAMPLE[key] for key in converters}
    answer: HttpResponse = client.generic(method.upper(), reverse(name, kwargs=named))
    return answer


ABOUT_ACCOUNT = {"rating_api:token", "rating_api:projects"}


def test_the_apis_routes_are_there():
    known = {("rating_api:imports", "post"), ("training_api:runs", "post"), ("training_api:snapshot", "get")}
    assert known <= set(operations())


@pytest.mark.parametrize(("name", "method"), operations())
def test_api_route_declares_its_roles_and_scope(name, method):
    found = operation(name, method)
    assert found.scope in ApiToken.Scope
    assert (method == "get") == (found.scope == ApiToken.Scope.READ)
    if name not in ABOUT_ACCOUNT:
        assert "slug" in api_routes()[name].pattern.converters
        assert found.roles
        assert Role.RATER not in found.roles


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "method"), operations())
def test_api_takes_no_session_and_no_stranger(name, method, project, admin):
    problem_of(ask(Client(), name, method, project.slug), 401)
    problem_of(ask(signed_in(admin), name, method, project.slug), 401)


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "method"), [one for one in operations() if one[0] not in ABOUT_ACCOUNT])
def test_api_by_role(name, method, project, people):
    problem_of(ask(program(people["outsider"]), name, method, project.slug), 404)
    allowed = {role.value for role in operation(name, method).roles}
    for role in set(Role.values) - allowed:
        problem_of(ask(program(people[role]), name, method, project.slug), 403)
    for role in allowed:
        answer = ask(program(people[role]), name, method, project.slug)
        assert answer.status_code < 500
        assert answer.status_code not in {401, 403, 405}


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "method"), operations())
def test_api_by_scope(name, method, project, people):
    scope = operation(name, method).scope
    others = [one for one in ApiToken.Scope.values if one != scope]
    admin, operator = (program(people[role], *others) for role in ("admin", "operator"))
    assert {ask(one, name, method, project.slug).status_code for one in (admin, operator)} == {403}
