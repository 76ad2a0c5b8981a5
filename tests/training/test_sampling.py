"""Responses asked of a version, and what becomes of them."""

import json

import pytest

from rating.models import Completion, Item, ModelVersion, Split
from tests.factories import make_item, make_model_version, make_project, make_prompt
from training.models import TrainingRun
from training.services.rundirs import prepare_run_directory
from training.services.runs import RunError
from training.services.sampling import fit_new_tokens, request_responses, store_responses


def write_samples(run: TrainingRun, answers: dict[str, tuple[str, ...]]) -> None:
    """samples.jsonl with the policy's answers per prompt id."""
    path = run.directory / "output" / "samples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"model": "policy", "temperature": 1.0, "top_p": 1.0, "seed": 3, "tokens": 4, "finished": False}
    rows = [
        {"prompt_id": key, "response": text, "index": index, **fields}
        for key, texts in answers.items()
        for index, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_prompts_with_the_fewest_items_are_asked(project, present):
    used = [make_prompt(project) for _ in range(3)]
    for prompt in used:
        make_item(project, prompt=prompt)
    fresh = [make_prompt(project) for _ in range(4)]
    type(fresh[0]).objects.filter(pk=fresh[0].pk).update(split=Split.EVAL)
    run = request_responses(project, present, count=5)
    spec = prepare_run_directory(run)
    rows = [json.loads(line) for line in (run.directory / spec.data.prompts).read_text().splitlines()]
    asked = [row["id"] for row in rows]
    assert len(asked) == 5
    assert set(asked[:4]) == {prompt.text_hash for prompt in fresh}
    assert asked[4] in {prompt.text_hash for prompt in used}
    assert (spec.samples_per_prompt, spec.temperature, spec.max_new_tokens) == (2, 1.0, 64)
    assert spec.models == {"policy": "models/policy"}


def test_the_seed_differs_from_run_to_run(project, present):
    make_prompt(project)
    runs = [request_responses(project, present, count=1) for _ in range(2)]
    assert runs[0].settings["seed"] != runs[1].settings["seed"]


def test_what_cannot_be_asked(project, present):
    with pytest.raises(RunError, match="no prompts to answer"):
        request_responses(project, present, count=5)
    make_prompt(project)
    with pytest.raises(RunError, match="count"):
        request_responses(project, present, count=0)
    with pytest.raises(RunError, match="another project"):
        request_responses(project, make_model_version(make_project()), count=5)
    with pytest.raises(RunError, match="reward model"):
        request_responses(project, make_model_version(project, kind=ModelVersion.Kind.REWARD), count=5)
    assert not TrainingRun.objects.exists()


def test_answers_become_items_above_older_ones(project, present):
    make_item(project, priority=7)
    evaluated = make_item(project, purpose=Item.Purpose.EVALUATE, priority=1000)
    prompts = [make_prompt(project) for _ in range(4)]
    keys = [prompt.text_hash for prompt in prompts]
    run = request_responses(project, present, count=4)
    write_samples(
        run,
        {
            keys[0]: ("one", "two"),
            keys[1]: ("same", "same"),
            keys[2]: ("NUL \x00", "fine"),
            keys[3]: ("lone",),
        },
    )
    stored = store_responses(run)
    assert (stored.items, stored.same, stored.unfit) == (1, 1, 2)
    told = " ".join(map(str, stored.sentences))
    assert "1 prompt was answered alike twice" in told
    item = Item.objects.get(prompt=prompts[0])
    assert (item.purpose, item.priority) == (Item.Purpose.COLLECT, 8)
    assert item.priority < evaluated.priority
    written = Completion.objects.filter(items=item).order_by("pk")
    assert [completion.text for completion in written] == ["one", "two"]
    assert {completion.model_version for completion in written} == {present}
    assert written[1].sampling == {
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 3,
        "index": 1,
        "tokens": 4,
        "finished": False,
        "run": run.number,
    }


def test_storing_takes_few_queries_per_item(project, present, django_assert_max_num_queries):
    prompts = [make_prompt(project) for _ in range(10)]
    run = request_responses(project, present, count=10)
    write_samples(run, {prompt.text_hash: ("one", "two") for prompt in prompts})
    with django_assert_max_num_queries(10 + 7 * 10):
        assert store_responses(run).items == 10


def test_the_longest_response_leaves_room_for_the_prompt(project, present, tmp_path):
    assert fit_new_tokens(present) == 64
    assert fit_new_tokens(make_model_version(project, base="owner/name")) == 256
