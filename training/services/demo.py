"""The demo project: its accounts, responses to be rated, and a trigger. For loopback-only demos."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import transaction

from rating.models import ModelVersion, Project, Role, User
from rating.services.items import create_completion, create_item, get_or_create_prompt
from rating.services.projects import add_member, create_project
from training.demo.manners import Manner, classify_manner
from training.demo.settings import DEMO_DPO, DEMO_REWARD
from training.services.promotions import promote_version
from training.services.triggers import save_trigger
from training.services.versions import add_base_version

DEMO_DIR = Path(__file__).resolve().parent.parent / "demo"
SLUG = "demo"
BASE_NAME = "demo base"
ACCOUNTS = {"rater": Role.RATER, "operator": Role.OPERATOR, "admin": Role.ADMIN}
EVAL_PERCENT = 20
# Per kind of row: how many come first, with which priority, and how many of its responses are shown.
FIRST = {"pair": (32, 10, 2), "single": (8, 5, 1)}
TRIGGER_EVERY = 40
# Without the characters that are easily taken for one another.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
GUIDELINES = """\
You see a question and what a small chat model answered. Say which answer you would rather get.

- Some answers are **warm**: they greet the question and give a useful tip or two.
- Others are **curt**, **rude** or **rambling**.

Go by your own taste and stick to it: the model will follow it. If two answers are equally good, or both are
bad, say so. A single answer gets 1 (bad) to 5 (just right).
"""


class DemoError(Exception):
    """The demo cannot be made here."""


def demo_password() -> str:
    """The demo accounts' password: random, made once for this installation, readable by its owner alone."""
    path = settings.HOME / "demo-password"
    if not path.exists():
        groups = ["".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(4)]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("-".join(groups))
    return path.read_text()


@transaction.atomic
def seed_demo() -> Project:
    """Make the demo project with its accounts, or leave it as it is; either way return it.

    Raises:
        DemoError: not in demo mode, so accounts with a printed password would be a hole.
    """
    if not settings.DEMO:
        raise DemoError("The demo has ready-made accounts, so it needs demo mode: set RATCHET_DEMO=1.")
    accounts = {name: make_account(name) for name in ACCOUNTS}
    project = Project.objects.filter(slug=SLUG).first()
    if project is None:
        project = make_project(accounts)
    # The checkout may have been moved since.
    ModelVersion.objects.filter(project=project, name=BASE_NAME).update(base=str(DEMO_DIR / "model"))
    return project


def make_account(name: str) -> User:
    """The account of that name; a new one gets the installation's demo password."""
    user, created = User.objects.get_or_create(username=name)
    if created:
        user.set_password(demo_password())
        user.save(update_fields=["password"])
        if name == "admin":
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label="rating", codename="add_project")
            )
    return user


def make_project(accounts: dict[str, User]) -> Project:
    """The project with its members, guidelines, items, first user model and trigger."""
    project = create_project(
        accounts["admin"],
        slug=SLUG,
        name="Warm or cold?",
        description="Teach a small chat model the manner you like.",
        guidelines=GUIDELINES,
        queue_strategy=Project.QueueStrategy.OLDEST,
        eval_percent=EVAL_PERCENT,
    )
    for name, role in ACCOUNTS.items():
        add_member(project, accounts[name], role)
    base = add_base_version(project, BASE_NAME, str(DEMO_DIR / "model"))
    promote_version(
        project, base, user=accounts["operator"], reason="The model the demo begins with.", collect=0
    )
    make_items(project, base)
    save_trigger(
        project,
        name=f"Every {TRIGGER_EVERY} judgments",
        every_judgments=TRIGGER_EVERY,
        plan=[
            {"recipe": "reward", "settings": DEMO_REWARD},
            {"recipe": "dpo", "settings": DEMO_DPO},
        ],
    )
    return project


def make_items(project: Project, base: ModelVersion) -> None:
    """Pairs first, then single responses, so that forty judgments have both; the rest; bare prompts.

    Among the pairs those of a warm and another response come first: forty judgments are few.
    """
    seen = dict.fromkeys(FIRST, 0)
    for row in sorted(read_rows("responses.jsonl"), key=teaches_less):
        kind = row["kind"]
        first, priority, shown = FIRST[kind]
        prompt, _ = get_or_create_prompt(project, row["prompt"], source="demo")
        completions = [
            create_completion(prompt, text, model_version=base, sampling=row["sampling"])
            for text in row["responses"][:shown]
        ]
        create_item(project, prompt, completions, priority=priority if seen[kind] < first else 0)
        seen[kind] += 1
    for row in read_rows("prompts.jsonl"):
        get_or_create_prompt(project, row["prompt"], source="demo")


def teaches_less(row: dict[str, Any]) -> bool:
    """Whether a pair has no warm response, or two: it says less about "Warm or cold?", so it comes later."""
    warm = [classify_manner(text) is Manner.WARM for text in row["responses"]]
    return row["kind"] == "pair" and sum(warm) != 1


def read_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of one of the demo's JSONL files."""
    with (DEMO_DIR / name).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
