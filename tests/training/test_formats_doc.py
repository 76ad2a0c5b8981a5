"""docs/formats.md shows what the exports really hold."""

import json
import re
import uuid
from datetime import UTC, datetime

import pytest
from django.conf import settings as django_settings

from rating.models import Judgment, Project, Rater
from tests.factories import (
    completions_of,
    make_dimension,
    make_item,
    make_judgment,
    make_model_version,
    make_project,
    make_prompt,
    make_question,
)
from training.services.exports import EXPORT_FORMATS, Export, iter_export
from training.services.queries import SnapshotQuery
from training.services.raw import rater_id
from training.services.rows import KINDS
from training.services.snapshots import freeze_snapshot

pytestmark = pytest.mark.django_db

DOC = django_settings.BASE_DIR / "docs" / "formats.md"
SECTION = re.compile(r"^### `([\w.-]+)`\n(?:(?!^#).*\n)*?```json\n(.+?)\n```", re.MULTILINE)
WHEN = datetime(2026, 3, 2, 9, 30, 5, 250000, tzinfo=UTC)


def documented() -> dict[str, dict]:
    """The example of each section, by its name."""
    return {name: json.loads(line) for name, line in SECTION.findall(DOC.read_text("utf-8"))}


@pytest.fixture
def example(settings, tmp_path) -> Project:
    """The judgments that the examples are of."""
    settings.SNAPSHOTS_DIR = tmp_path
    project = make_project(slug="kitchen", eval_percent=0, guidelines="Be kind.")
    rater = Rater.objects.create(project=project, pseudonym="R-7KQ2M9")
    version = make_model_version(project, "cook-2")
    prompt = make_prompt(
        project, "How long do eggs boil?", source="questions.jsonl", metadata={"topic": "eggs"}
    )
    pair = make_item(project, prompt=prompt, texts=["Seven minutes.", "Boil them."], model_version=version)
    first, second = completions_of(pair)
    judgment = make_judgment(
        pair,
        rater,
        choice="a",
        strength="better",
        public_id=uuid.UUID(int=1),
        idempotency_key=uuid.UUID(int=2),
        judged_at=WHEN,
        seconds=21.5,
        rationale="It answers.",
        flags=["unsure"],
        guidelines=project.guidelines.get(),
    )
    Judgment.objects.get(pk=judgment.pk).assignment.__class__.objects.update(
        leased_at=WHEN, order_shown=[second.pk, first.pk]
    )
    judgment.ratings.create(completion=first, dimension=make_dimension(project, "tone"), value=4)
    judgment.answers.create(question=make_question(project, "safe"), completion=second, value=True)
    judgment.span_marks.create(completion=second, start=0, end=4, verdict="bad", reason="Too short")
    ranked = make_item(
        project, prompt=make_prompt(project, "Name a fruit."), texts=["Pear.", "Plum.", "Stone."]
    )
    a, b, c = (completion.pk for completion in completions_of(ranked))
    make_judgment(ranked, rater, ranking=[[a, b], [c]], public_id=uuid.UUID(int=3), judged_at=WHEN)
    single = make_item(project, prompt=make_prompt(project, "Say hello."), texts=["Hello!"])
    make_judgment(single, rater, value=4, public_id=uuid.UUID(int=4), judged_at=WHEN)
    return project


def first_lines(project: Project) -> dict[str, dict]:
    """The first line of each export and of each of a snapshot's files."""
    snapshot = freeze_snapshot(project, SnapshotQuery(margin="small"))
    found = {}
    for fmt in EXPORT_FORMATS:
        data = b"".join(iter_export(Export(project, fmt, snapshot=snapshot)))
        found[fmt] = json.loads(data.splitlines()[0])
    for kind in KINDS:
        name = f"{kind}.train.jsonl"
        found[name] = json.loads((snapshot.directory / name).read_bytes().splitlines()[0])
    return found


def test_every_format_has_its_example_and_it_is_what_is_exported(example):
    found, told = first_lines(example), documented()
    assert set(told) == set(found)
    # The key of an installation makes the rater's id.
    assert re.fullmatch(r"r-[0-9a-f]{20}", told["judgments"]["rater"])
    told["judgments"]["rater"] = rater_id(example, "R-7KQ2M9", "")
    for name, line in found.items():
        assert told[name] == line, name
        assert list(told[name]) == list(line), name


def test_the_columns_are_those_that_are_declared(example):
    for name, line in first_lines(example).items():
        if name in EXPORT_FORMATS:
            assert list(line) == list(EXPORT_FORMATS[name].columns)
