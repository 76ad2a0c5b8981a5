"""Programs for tests: a client with a token, and a project with one of everything."""

from __future__ import annotations

from typing import Any

from django.test import Client

from rating.models import ApiToken, Project, User
from rating.services.tokens import create_token

ALL_SCOPES = list(ApiToken.Scope.values)


def program(user: User, *scopes: str, project: Project | None = None) -> Client:
    """A client that sends a token of this account, with these scopes (all of them by default)."""
    _token, text = create_token(user, name="a program", scopes=scopes or ALL_SCOPES, days=7, project=project)
    return Client(headers={"Authorization": f"Bearer {text}"})


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    """Send JSON."""
    if body is None:
        return client.generic(method.upper(), path)
    return getattr(client, method)(path, body, content_type="application/json")


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """The problem details, when it is a problem of this status."""
    assert response.status_code == status, (response.status_code, response.content[:400])
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    return problem


def fields_of(response: Any, status: int = 422) -> list[str]:
    """The fields that are named as being at fault."""
    return [one["field"] for one in problem_of(response, status)["errors"]]
