"""The real files beside the project go in unaided, each with the right counts."""

import json
from collections import Counter

import pytest
from django.db.models import Count

from rating.models import Item, Judgment, Prompt, Rater
from rating.services.imports import Columns, import_file
from tests.rating.imports.files import DATA, counts

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not beside the project"),
]


def take_path(project, name):
    """Import one of the files as it lies there."""
    with (DATA / name).open("rb") as file:
        return import_file(project, file, source=name)


# Format, rows, prompts, completions, items, judgments, rows left out by reason.
FILES = {
    "llamafactory-demo/alpaca_en_demo.json": ("alpaca", 983, 969, 969, 969, 0, {"repeated": 14}),
    "llamafactory-demo/dpo_en_demo.json": ("sharegpt", 197, 193, 386, 193, 193, {"repeated": 4}),
    "llamafactory-demo/kto_en_demo.json": ("trl-unpaired", 212, 210, 212, 212, 212, {}),
    "mt-bench-human/question.jsonl": ("mt-bench-questions", 50, 50, 0, 0, 0, {}),
    "prompts/vicuna80/question.jsonl": ("mt-bench-questions", 51, 51, 0, 0, 0, {}),
    "prompts/seed_tasks.jsonl": ("self-instruct", 175, 175, 175, 175, 0, {}),
    "open-instruct-pairs/eval_instances_tulu_1.jsonl.gz": ("ranking", 693, 228, 893, 665, 0, {"equal": 28}),
    "xstest/xstest_v2_completions_gpt4.csv": ("trl-completion", 297, 297, 297, 297, 0, {}),
    "oasst-sampling/gpt-4.json.gz": ("oasst-sampling", 170, 170, 170, 170, 0, {}),
    "pandalm/testset-v1.json": ("pandalm", 703, 123, 579, 703, 2109, {}),
    "mt-bench-human/human.jsonl.gz": (
        "mt-bench-votes",
        2138,
        52,
        305,
        565,
        1072,
        {"differs_earlier": 1056, "equal": 9, "repeated": 1},
    ),
    "mt-bench-human/gpt4_pair.jsonl.gz": (
        "mt-bench-votes",
        1500,
        52,
        305,
        749,
        749,
        {"differs_earlier": 745, "equal": 6},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_in_unaided(project, name):
    report = take_path(project, name)
    left_out = {reason: tally.count for reason, tally in report.left_out.items()}
    found = (
        report.format,
        report.rows,
        report.prompts,
        report.completions,
        report.items,
        report.judgments,
        left_out,
    )
    assert found == FILES[name]
    before = counts()
    again = take_path(project, name)
    assert (again.taken, counts()) == (0, before)


def test_the_answers_of_fourteen_models_find_their_questions(project):
    """Each of 50 questions has two turns, and each model answers both."""
    take_path(project, "mt-bench-human/question.jsonl")
    paths = sorted((DATA / "mt-bench-human/model_answer").glob("*.gz"))
    for path in paths:
        report = take_path(project, path.relative_to(DATA).as_posix())
        assert (report.format, report.rows, report.taken) == ("mt-bench-answers", 50, 50)
        assert report.items == report.completions == 100
    first = Prompt.objects.filter(metadata__has_key="turns")
    assert first.count() == 50
    assert set(first.annotate(n=Count("completions")).values_list("n", flat=True)) == {len(paths)}
    asked = take_path(project, "mt-bench-human/human.jsonl.gz")
    # Two prompts are second turns to which both models had said the same before.
    assert (asked.prompts, asked.completions) == (0, 0)


def test_votes_keep_their_raters_and_their_ties(project):
    take_path(project, "mt-bench-human/human.jsonl.gz")
    raters = Rater.objects.annotate(n=Count("judgments"))
    assert raters.filter(external_id__startswith="mt-bench/expert_").count() > 50
    assert raters.filter(external_id="mt-bench/author_2", n__gt=0).exists()
    assert not raters.filter(pseudonym__contains="expert").exists()
    said = dict(Judgment.objects.values_list("choice").annotate(Count("pk")))
    assert said["tie"] > 200
    assert set(said) == {"a", "b", "tie"}
    several = Item.objects.annotate(n=Count("judgments")).filter(n__gte=2)
    assert several.count() > 250
    assert all((item.overlap, item.open_slots) == (item.n, 0) for item in several)


def test_three_annotators_judge_every_item(project):
    take_path(project, "pandalm/testset-v1.json")
    assert Item.objects.annotate(n=Count("judgments")).filter(n=3, overlap=3, open_slots=0).count() == 703
    assert Rater.objects.count() == 3


def test_a_file_in_no_known_format_goes_in_by_its_columns(project):
    columns = Columns.parse("prompt=input,response=output_1,response=output_2,label=label")
    with (DATA / "llmbar/natural.json").open("rb") as file:
        report = import_file(project, file, columns=columns)
        assert (report.format, report.rows, report.judgments) == ("columns", 58, 58)
        file.seek(0)
        labels = Counter(row["label"] for row in json.load(file))
    said = Counter(Judgment.objects.values_list("choice", flat=True))
    assert said == {"a": labels[1], "b": labels[2]}
