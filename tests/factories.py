"""Rows for tests: plain functions with keyword defaults. Texts differ by a counter, so nothing collides."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.utils import timezone

from rating.models import (
    Assignment,
    Completion,
    Dimension,
    Guidelines,
    Item,
    Judgment,
    Membership,
    ModelVersion,
    Project,
    Prompt,
    Question,
    Rater,
    Rating,
    Role,
    User,
)
from rating.services.items import create_completion, create_item, get_or_create_prompt
from rating.services.projects import rater_for

counter = itertools.count(1)

ALL_ROLES = (Role.RATER, Role.ADMIN, Role.OPERATOR)


def make_user(username: str = "", *, password: str | None = None, **fields: object) -> User:
    """An account; without a password nobody can sign in as it but `client.force_login`."""
    return User.objects.create_user(username or f"user-{next(counter)}", password=password, **fields)


def make_project(
    user: User | None = None,
    roles: Iterable[Role] = ALL_ROLES,
    *,
    slug: str = "",
    guidelines: str = "",
    **fields: object,
) -> Project:
    """A project; with a user, that account gets the roles named (all three by default)."""
    number = next(counter)
    fields.setdefault("name", f"Project {number}")
    project = Project.objects.create(slug=slug or f"project-{number}", **fields)
    if guidelines:
        Guidelines.objects.create(project=project, number=1, text=guidelines)
    if user is not None:
        for role in roles:
            make_membership(project, user, role)
    return project


def make_membership(project: Project, user: User | None = None, role: Role = Role.RATER) -> Membership:
    """One role of one account in the project."""
    return Membership.objects.create(project=project, user=user or make_user(), role=role)


def make_rater(project: Project, user: User | None = None) -> Rater:
    """The rater of an account that has the role of rater."""
    user = user or make_user()
    Membership.objects.get_or_create(project=project, user=user, role=Role.RATER)
    return rater_for(project, user)


def make_prompt(project: Project, text: str = "", **fields: object) -> Prompt:
    """A prompt of one user message; `messages=[...]` says another conversation."""
    messages = fields.pop("messages", None) or [
        {"role": "user", "content": text or f"Question {next(counter)}?"}
    ]
    prompt, _ = get_or_create_prompt(project, messages, **fields)
    return prompt


def make_completion(
    prompt: Prompt, text: str = "", *, model_version: ModelVersion | None = None, **fields: object
) -> Completion:
    """A response; of a model version, or of nobody in particular."""
    return create_completion(
        prompt, text or f"Response {next(counter)}.", model_version=model_version, **fields
    )


def make_item(
    project: Project,
    n: int = 2,
    *,
    prompt: Prompt | None = None,
    texts: Sequence[str] = (),
    model_version: ModelVersion | None = None,
    **fields: object,
) -> Item:
    """An item with n responses, or with these texts; `purpose`, `priority`, `overlap` as in create_item."""
    prompt = prompt or make_prompt(project)
    wanted = list(texts) or [f"Response {next(counter)}." for _ in range(n)]
    completions = [make_completion(prompt, text, model_version=model_version) for text in wanted]
    return create_item(project, prompt, completions, **fields)


def completions_of(item: Item) -> list[Completion]:
    """The item's completions in canonical order: a, b, ..."""
    return [place.completion for place in item.places.select_related("completion")]


def make_assignment(item: Item, rater: Rater, **fields: object) -> Assignment:
    """A live lease with the canonical order shown; its slot is taken from the item."""
    fields.setdefault("state", Assignment.State.LEASED)
    fields.setdefault("expires_at", timezone.now() + timedelta(minutes=30))
    fields.setdefault("order_shown", [completion.pk for completion in completions_of(item)])
    if fields["state"] in (Assignment.State.LEASED, Assignment.State.DONE):
        item.open_slots -= 1
        item.save(update_fields=["open_slots"])
    return Assignment.objects.create(item=item, rater=rater, **fields)


def make_judgment(
    item: Item, rater: Rater | None = None, *, choice: str = "", value: int | None = None, **fields: object
) -> Judgment:
    """A judgment with its finished assignment, in canonical words.

    Two completions: `choice` (a by default). One: `value` (3 by default), rated overall.
    """
    rater = rater or make_rater(item.project)
    completions = completions_of(item)
    if len(completions) == 2:
        choice = choice or "a"
    assignment = make_assignment(item, rater, state=Assignment.State.DONE, ended_at=timezone.now())
    fields.setdefault("judged_at", timezone.now())
    fields.setdefault("idempotency_key", uuid.uuid4())
    fields.setdefault("preferred", {"a": completions[0], "b": completions[-1]}.get(choice))
    judgment = Judgment.objects.create(item=item, rater=rater, assignment=assignment, choice=choice, **fields)
    if len(completions) == 1:
        Rating.objects.create(
            judgment=judgment, completion=completions[0], value=3 if value is None else value
        )
    return judgment


def make_model_version(project: Project, name: str = "", **fields: object) -> ModelVersion:
    """A policy without files; `kind`, `base`, `parent` and the rest as keywords."""
    fields.setdefault("kind", ModelVersion.Kind.POLICY)
    return ModelVersion.objects.create(project=project, name=name or f"model-{next(counter)}", **fields)


def make_dimension(project: Project, key: str = "", **fields: object) -> Dimension:
    """A dimension that single responses are rated for."""
    key = key or f"dimension-{next(counter)}"
    fields.setdefault("name", key.capitalize())
    return Dimension.objects.create(project=project, key=key, **fields)


def make_question(project: Project, key: str = "", **fields: object) -> Question:
    """A yes/no question asked of each item."""
    key = key or f"question-{next(counter)}"
    fields.setdefault("text", f"Is it {key}?")
    return Question.objects.create(project=project, key=key, **fields)
