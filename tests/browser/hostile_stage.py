"""The stage of test_hostile.py, set beside the running server: `python -m tests.browser.hostile_stage SLUG KIND`.

KIND is `hostile` or `harmless`: the same rows with hostile texts or with plain ones, so that the pages of the
two projects have the same elements.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from unicodedata import normalize

import django

if __name__ == "__main__":
    django.setup()

from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from rating.models import Import, Item, ModelVersion, Project, Role, User
from rating.services.asking import update_asking
from rating.services.imports.jobs import receive_upload
from rating.services.projects import publish_guidelines
from tests.factories import (
    make_item,
    make_judgment,
    make_membership,
    make_project,
    make_prompt,
    make_rater,
    make_user,
)
from tests.hostile import RAW, STORED, fit
from training.models import (
    Evaluation,
    EvaluationItem,
    Promotion,
    RunEvent,
    TrainingRun,
    Trigger,
)
from training.services.promotions import promote_version
from training.services.queries import SnapshotQuery
from training.services.snapshots import freeze_snapshot
from training.services.storable import make_storable

ROLES = (Role.RATER, Role.ADMIN, Role.OPERATOR)
ASKED_AT_ONCE = 38
FILES = 8
NAMES = [name for name in STORED if RAW[name].strip()]


def texts_of(kind: str, limit: int, *, lines: bool = True) -> list[str]:
    """The texts as far as a field of that length takes them, each once; or as many harmless ones."""
    found: dict[str, str] = {}
    for name in NAMES:
        text = fit(RAW[name] if lines else " ".join(RAW[name].split()), limit).strip()
        found.setdefault(normalize("NFKC", text), text)
    found.pop("", None)
    return list(found.values()) if kind == "hostile" else [f"Plain {number}" for number in range(len(found))]


def set_stage(slug: str, kind: str) -> None:
    """Projects, accounts, versions, promotions, triggers, runs and an evaluation with such texts."""
    people = [User.objects.get(username=name) for name in ("rater", "admin", "operator")]
    project = add_project(people, slug, name=texts_of(kind, 120)[0], description=texts_of(kind, 500)[1])
    guidelines = "\n\n".join(text for text in texts_of(kind, 400) if len(text) < 400)
    publish_guidelines(project, fit(guidelines, 45_000))
    for text in texts_of(kind, 140):
        make_membership(project, make_user(text))
    for place, text in enumerate(texts_of(kind, 120)):
        add_project(people, f"{slug}-name-{place}", name=text, description=text)
    add_asked(people, slug, kind)
    add_versions(project, kind)
    add_run(project, kind)
    add_evaluation(project, kind)
    add_snapshots(project, kind)
    add_imports(project, kind)


def add_project(people: list[User], slug: str, **fields: object) -> Project:
    project = make_project(slug=slug, **fields)
    for user, role in zip(people, ROLES, strict=True):
        make_membership(project, user, role)
    return project


def add_asked(people: list[User], slug: str, kind: str) -> None:
    """Projects whose dimensions, questions, ends, options and reasons are such texts, with an item each."""
    words, ends = texts_of(kind, 80), texts_of(kind, 60)
    for number, first in enumerate(range(0, len(words), ASKED_AT_ONCE)):
        project = add_project(people, f"{slug}-asked-{number}", name=f"Asked {number}")
        pairs = list(zip(words, ends, strict=False))[first : first + ASKED_AT_ONCE]
        dimensions = [{"name": text, "low_label": end, "high_label": end} for text, end in pairs[:10]]
        kinds = ("choice", "tags", "scale", "yes_no", "text")
        odd = ["constructor", "__proto__"] if kind == "hostile" else ["plain", "plainer"]
        questions = [
            {
                "text": text,
                "kind": kinds[place % 5],
                "options": [*odd, end],
                "low_label": end,
                "high_label": end,
            }
            for place, (text, end) in enumerate(pairs[10:])
            if end not in odd
        ]
        reasons = [" ".join(text.split()) for text, _ in pairs]
        update_asking(
            project, {"mark_spans": True, "span_reasons": list(dict.fromkeys(reasons))}, dimensions, questions
        )
        make_item(project, texts=["The only response."])


def add_versions(project: Project, kind: str) -> None:
    """Model versions, promotions and triggers."""
    texts = texts_of(kind, 120)
    versions = [
        ModelVersion.objects.create(
            project=project, name=text, kind="policy", base=text, adapter=text, system_prompt=text, files={text: text},
            tokenizer_hash=fit(text, 64), chat_template_hash=fit(text, 64),
        )
        for text in texts
    ]  # fmt: skip
    promote_version(project, versions[0], user=None, reason=texts[0], collect=0)
    for version, text in zip(versions[1:], texts_of(kind, 2000), strict=False):
        Promotion.objects.create(project=project, model_version=version, replaced=versions[0], reason=text)
    for text in texts:
        Trigger.objects.create(
            project=project, name=text, enabled=False, plan=[{"recipe": "dpo", "settings": {}}]
        )


def add_run(project: Project, kind: str) -> None:
    """A failed run whose directory is full of such texts."""
    texts, now = texts_of(kind, 2000), timezone.now()
    named = dict.fromkeys(texts_of(kind, 60), 0.5)
    version = ModelVersion.objects.filter(project=project).first()
    run = TrainingRun.objects.create(
        project=project, number=1, recipe="dpo", state="failed", policy=version, model_version=version, attempt=1,
        started_at=now - timedelta(minutes=5), ended_at=now, error_code=fit(texts[0], 40), error_message=texts[0],
        trigger=Trigger.objects.filter(project=project).first(), settings={"seed": 7},
        result={"metrics": named, "environment": {"platform": texts[1], "versions": dict.fromkeys(named, texts[2])}, "dataset": dict.fromkeys(named, texts[3])},
    )  # fmt: skip
    rows = [{"prompt": [{"role": texts[5], "content": text}], "response": text} for text in texts]
    events = [("started", {"device": texts[4], "parameters": dict.fromkeys(texts[:20], 5)})]
    events += [("samples", {"phase": phase, "rows": rows}) for phase in ("before", "after")]
    events += [
        ("metrics", {"values": {name: float(step) for name in list(named)[:40]}}) for step in (1, 2, 3)
    ]
    events += [("warning", {"message": text}) for text in texts[-45:]]
    RunEvent.objects.bulk_create(
        RunEvent(run=run, attempt=1, kind=kind_, step=step, data=make_storable(data), happened_at=now)
        for step, (kind_, data) in enumerate(events)
    )
    run.directory.mkdir(parents=True)
    (run.directory / "log.txt").write_text("\n".join(texts), encoding="utf-8")


def add_evaluation(project: Project, kind: str) -> None:
    """A closed comparison of two versions; their responses are such texts."""
    candidate, baseline = ModelVersion.objects.filter(project=project)[:2]
    evaluation = Evaluation.objects.create(
        project=project,
        number=1,
        candidate=candidate,
        baseline=baseline,
        state="closed",
        closed_at=timezone.now(),
    )
    for place, text in enumerate(texts_of(kind, 3000)[:100]):
        prompt = make_prompt(project, f"Held out {place}: {text}")
        item = make_item(project, prompt=prompt, texts=[text, f"{text} "], purpose=Item.Purpose.EVALUATE)
        Item.objects.filter(pk=item.pk).update(open_slots=0)
        EvaluationItem.objects.create(evaluation=evaluation, item=item, candidate_position=0)


def add_snapshots(project: Project, kind: str) -> None:
    """Two snapshots of judged texts, in two scripts, taken by somebody with such a name; a run learned from one."""
    raters = [make_rater(project, make_user(f"{project.slug}-{number}")) for number in (1, 2)]
    user = User.objects.filter(username=texts_of(kind, 140)[7]).first()
    for text in [*texts_of(kind, 3000), "\u043f\u0440\u0438\u0432\u0435\u0442"]:
        item = make_item(project, texts=[text, f"{text}."], prompt=make_prompt(project, text), overlap=2)
        for rater in raters:
            make_judgment(item, rater, rationale=text)
    first = freeze_snapshot(project, user=user)
    TrainingRun.objects.filter(project=project).update(snapshot=first)
    freeze_snapshot(project, SnapshotQuery(rows="soft", without_raters=(raters[0].pseudonym,)), user=user)


def add_imports(project: Project, kind: str) -> None:
    """Files that wait with such names and rows, three of which are shown; one was refused, one was taken in."""
    texts = texts_of(kind, 3000)
    for number in range(FILES):
        some = [texts[5 * (3 * number + place) % len(texts)] for place in range(3)]
        rows = [
            {
                "prompt": text,
                "responses": [{"text": text, "model": fit(text, 200)}, f"{text}."],
                fit(text, 60): 1,
            }
            for text in some
        ]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        row = receive_upload(
            project, SimpleUploadedFile("rows.jsonl", data), User.objects.get(username="admin")
        )
        told = {name: {"count": 1, "lines": [1]} for name in texts_of(kind, 60)}
        report = {"format": "responses", "rows": 1, "fields_ignored": told, "errors": texts[:20]}
        values: dict[str, object] = {"name": fit(some[0], 200)}
        values |= {"state": "refused", "errors": texts} if number == 1 else {}
        values |= {"state": "succeeded", "report": report} if number == 2 else {}
        Import.objects.filter(pk=row.pk).update(id=1000 * (1 + (kind == "harmless")) + number, **values)


if __name__ == "__main__":
    from django.db import transaction

    with transaction.atomic():
        set_stage(sys.argv[1], sys.argv[2])
