"""The audit trail: complete, of the right account and token, and never changed."""

import pytest
from django.urls import reverse

from rating.models import ApiToken, AuditEvent, Project
from rating.models.judgments import AppendOnlyError
from rating.services.projects import ProjectError, update_project
from rating.services.tokens import create_token, revoke_token
from tests.api import program, send
from tests.factories import make_user

pytestmark = pytest.mark.django_db
HERE = "/api/projects/demo/"


def test_a_program_is_named_with_its_token(admin, project):
    client = program(admin)
    assert send(client, "patch", HERE, {"overlap": 3}).status_code == 200
    event = AuditEvent.objects.first()
    assert (event.action, event.project, event.actor, event.actor_name) == (
        "project.changed",
        project,
        admin,
        "admin",
    )
    assert event.token == ApiToken.objects.get()
    assert event.details == {"overlap": 3}


def test_a_page_does_the_same_without_a_token(admin_client, admin, project):
    make_user("new")
    path = reverse("rating:members", kwargs={"slug": "demo"})
    assert admin_client.post(path, {"username": "new", "role": "rater"}).status_code == 302
    event = AuditEvent.objects.first()
    assert (event.action, event.actor, event.token) == ("member.added", admin, None)
    assert (event.subject, event.details) == ("new", {"role": "rater"})


def test_what_ratchet_does_by_itself_has_no_actor(project):
    update_project(project, overlap=2)
    assert AuditEvent.objects.get().actor_name == ""


def test_what_changes_nothing_or_is_refused_leaves_no_event(project):
    update_project(project, overlap=project.overlap)
    with pytest.raises(ProjectError):
        update_project(project, overlap=2, scale_min=8, scale_max=8)
    assert not AuditEvent.objects.exists()
    assert Project.objects.get(pk=project.pk).overlap == project.overlap


def test_tokens_are_recorded(admin):
    token, text = create_token(admin, name="nightly", scopes=["read"], days=1)
    revoke_token(token)
    revoke_token(token)
    assert list(AuditEvent.objects.order_by("pk").values_list("action", flat=True)) == [
        "token.made",
        "token.revoked",
    ]
    assert not any(text in str(values) for values in AuditEvent.objects.values())


def test_nothing_is_ever_changed(project):
    update_project(project, overlap=2)
    event = AuditEvent.objects.get()
    event.action = "nothing"
    for change in (
        event.save,
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(action="nothing"),
    ):
        with pytest.raises(AppendOnlyError):
            change()
    assert AuditEvent.objects.get().action == "project.changed"


def test_the_trail_outlives_the_account(admin, project):
    send(program(admin), "patch", HERE, {"overlap": 3})
    admin.delete()
    event = AuditEvent.objects.first()
    assert (event.actor, event.token, event.actor_name) == (None, None, "admin")


def test_admins_read_it(admin, admin_client, operator, operator_client, project):
    client = program(admin)
    send(client, "patch", HERE, {"overlap": 3, "description": "<b>kind</b>"})
    send(client, "post", f"{HERE}guidelines/", {"text": "Be brief."})
    page = admin_client.get(reverse("rating:audit", kwargs={"slug": "demo"}))
    assert page.status_code == 200
    assert "guidelines.published" in page.content.decode()
    assert "<b>kind</b>" not in page.content.decode()
    told = client.get(f"{HERE}audit/?action=guidelines.published&actor=admin").json()["results"]
    assert [(one["subject"], one["actor"]) for one in told] == [("2", "admin")]
    assert program(operator).get(f"{HERE}audit/").status_code == 403
    assert operator_client.get(reverse("rating:audit", kwargs={"slug": "demo"})).status_code == 403
