"""Whatever people write and do: judged, frozen, exported, the bytes are always the same and lose nothing."""

import csv
import io
import json
import uuid
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rating.models import Judgment
from tests.factories import completions_of, make_item, make_judgment, make_project, make_prompt, make_rater
from training.services.encoding import from_cell
from training.services.exports import EXPORT_FORMATS, Export, iter_export
from training.services.queries import SnapshotQuery
from training.services.snapshots import freeze_snapshot, snapshot_files_ok

pytestmark = pytest.mark.django_db

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20) | st.just(
    '","margin":null,"judgments":[]}'
)
said = st.fixed_dictionaries(
    {
        "prompt": texts,
        "responses": st.lists(texts, min_size=2, max_size=3),
        "choice": st.sampled_from(["a", "b", "tie", "both_bad"]),
        "revised": st.booleans(),
        "leaves": st.booleans(),
        "rationale": texts,
    }
)
queries = st.sampled_from(
    [
        SnapshotQuery(),
        SnapshotQuery(ties="keep", margin="small"),
        SnapshotQuery(rows="soft", weights="reliability", ties="keep"),
        SnapshotQuery(max_per_rater=1),
    ]
)


def judge(project, raters, number: int, case: dict[str, Any]) -> None:
    """One item judged by each rater, perhaps revised."""
    prompt = make_prompt(project, f"{number} {case['prompt']}")
    item = make_item(
        project, prompt=prompt, texts=[f"{text} {n}" for n, text in enumerate(case["responses"])]
    )
    completions = completions_of(item)
    for rater in raters:
        item.open_slots = 1
        if len(completions) == 3:
            ranking = [[completions[0].pk], [completions[1].pk, completions[2].pk]]
            make_judgment(item, rater, ranking=ranking, rationale=case["rationale"])
            continue
        first = make_judgment(item, rater, choice=case["choice"], rationale=case["rationale"])
        if case["revised"]:
            Judgment.objects.create(
                item=item,
                rater=rater,
                supersedes=first,
                idempotency_key=uuid.uuid4(),
                choice="a",
                preferred=completions[0],
                judged_at=timezone.now(),
            )


def export(snapshot, fmt: str, file: str) -> bytes:
    return b"".join(iter_export(Export(snapshot.project, fmt, snapshot=snapshot, file=file)))


def read(data: bytes, fmt: str, file: str) -> list[dict[str, Any]]:
    """The lines of a file."""
    columns = EXPORT_FORMATS[fmt].columns
    if file == "jsonl":
        return [json.loads(line) for line in data.split(b"\n")[:-1]]
    rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
    return [{name: from_cell(cell, columns[name]) for name, cell in row.items()} for row in rows]


@pytest.fixture
def own_directory(settings, tmp_path) -> None:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(cases=st.lists(said, min_size=1, max_size=3), query=queries)
def test_what_was_said_comes_out_whole_and_always_the_same(own_directory, cases, query):
    project = make_project(eval_percent=0)
    raters = [make_rater(project) for _ in range(2)]
    sure = make_judgment(make_item(project), choice="a")
    for number, case in enumerate(cases):
        judge(project, raters, number, case)
    snapshot = freeze_snapshot(project, query)
    assert freeze_snapshot(project, query) == snapshot
    first = {(fmt, file): export(snapshot, fmt, file) for fmt in EXPORT_FORMATS for file in ("jsonl", "csv")}
    for case, rater in zip(cases, raters, strict=False):
        if case["leaves"]:
            rater.user.delete()
    make_judgment(make_item(project), choice="b")
    assert snapshot_files_ok(snapshot)
    for (fmt, file), data in first.items():
        assert export(snapshot, fmt, file) == data
        assert read(data, fmt, file) == read(first[fmt, "jsonl"], fmt, "jsonl")
    raw = read(first["judgments", "jsonl"], "judgments", "jsonl")
    named = snapshot.judgments.values_list("public_id", flat=True)
    assert {row["judgment"] for row in raw} == set(map(str, named))
    assert str(sure.public_id) in {row["judgment"] for row in raw}
    spoken = {case["rationale"] for case in cases} | {""}
    assert {row["rationale"] for row in raw} <= spoken
