"""The pages that no view of ours writes: sign-in and its relatives, and the refusals."""

import pytest
from allauth.account.urls import urlpatterns
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views.defaults import bad_request, page_not_found, permission_denied, server_error

from config.errors import csrf_failure
from rating.models import Role
from tests.factories import make_membership, make_user

KEYS = {
    "account_confirm_email": {"key": "abc"},
    "account_reset_password_from_key": {"uidb36": "1", "key": "a-b"},
}
OURS = b'<link rel="stylesheet" href="/static/css/ratchet.css">'


@pytest.mark.parametrize("name", [pattern.name for pattern in urlpatterns])
@pytest.mark.parametrize("signed_in", [False, True])
def test_every_account_page_has_our_looks(name, signed_in, db):
    client = Client()
    if signed_in:
        client.force_login(make_user("ada", password="correct horse 9"))
    response = client.get(reverse(name, kwargs=KEYS.get(name)), follow=True)
    assert response.status_code == 200
    assert OURS in response.content
    for forbidden in (b" style=", b" onclick=", b"<style", b"<script>"):
        assert forbidden not in response.content


def test_nobody_signs_up(db, client):
    assert b"Accounts are by invitation" in client.get(reverse("account_signup")).content


def test_a_wrong_password_is_told_beside_the_form(db, client):
    make_user("ada", password="correct horse 9")
    page = client.post(reverse("account_login"), {"login": "ada", "password": "wrong"}).content
    assert b'class="errorlist nonfield"' in page
    assert b'value="ada"' in page


def test_the_password_is_changed_through_the_form(db, client):
    user = make_user("ada", password="correct horse 9")
    client.force_login(user)
    new = "battery staple 8"
    client.post(
        reverse("account_change_password"),
        {"oldpassword": "correct horse 9", "password1": new, "password2": new},
    )
    user.refresh_from_db()
    assert user.check_password(new)


def anonymous_request() -> HttpRequest:
    request = RequestFactory().get("/x/")
    request.user = AnonymousUser()
    return request


def test_a_refusal_says_why_and_escapes_it(db):
    response = permission_denied(anonymous_request(), PermissionDenied("For the roles: <Admin>."))
    assert response.status_code == 403
    assert b"For the roles: &lt;Admin&gt;." in response.content


def test_a_refusal_without_a_reason_says_something(db):
    assert (
        b"Your account may not do this." in permission_denied(anonymous_request(), PermissionDenied()).content
    )


def test_missing_pages_have_our_looks(db, client):
    response = client.get("/nothing/here/")
    assert response.status_code == 404
    assert OURS in response.content
    assert page_not_found(anonymous_request(), Exception()).status_code == 404


@pytest.mark.parametrize(("view", "status"), [(bad_request, 400), (server_error, 500)])
def test_pages_of_last_resort_need_nothing(view, status):
    request = RequestFactory().get("/x/")
    response = view(request, SuspiciousOperation()) if view is bad_request else view(request)
    assert response.status_code == status
    assert OURS in response.content


def test_a_form_without_its_token_is_refused_in_plain_words(db):
    response = Client(enforce_csrf_checks=True).post(
        reverse("account_login"), {"login": "a", "password": "b"}
    )
    assert response.status_code == 403
    assert b"The form was too old" in response.content
    assert csrf_failure(anonymous_request(), "why").status_code == 403


@pytest.mark.parametrize(
    ("roles", "seen", "hidden"),
    [
        ([Role.RATER], ["Rate", "Overview"], ["Import", "Members", "Settings", "Training", "Versions"]),
        ([Role.OPERATOR], ["Overview", "Training", "Versions"], ["Rate<", "Import", "Members", "Settings"]),
        ([Role.ADMIN], ["Import", "Snapshots &amp; export", "Members", "Settings", "Training"], ["Rate<"]),
    ],
)
def test_the_navigation_follows_the_roles(project, client, roles, seen, hidden):
    user = make_user("ada")
    for role in roles:
        make_membership(project, user, role)
    client.force_login(user)
    page = client.get(reverse("rating:project", kwargs={"slug": project.slug})).content.decode()
    navigation = page.split('<nav class="project-nav"')[1].split("</nav>")[0]
    assert 'aria-current="page"' in navigation
    assert all(f"<span>{word}</span>" in navigation for word in seen)
    assert not any(f"<span>{word}" in navigation for word in hidden)


def test_names_of_projects_are_text(project, client, admin):
    project.name = "<script>alert(1)</script>"
    project.save()
    client.force_login(admin)
    page = client.get(reverse("rating:project", kwargs={"slug": project.slug})).content
    assert b"<script>alert" not in page


def test_messages_are_a_status(db):
    assert 'role="status"' in render_to_string("messages.html", {"messages": []})
