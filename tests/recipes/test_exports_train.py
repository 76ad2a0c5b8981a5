"""Each export for TRL loads with `datasets`, and its trainer makes a step on it, with nothing in between."""

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from datasets import load_dataset  # noqa: E402  # after importorskip
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402

from rating.models import Project  # noqa: E402
from tests.factories import completions_of, make_item, make_judgment, make_prompt, make_rater  # noqa: E402
from training.services.exports import Export, iter_export, write_export  # noqa: E402
from training.services.queries import SnapshotQuery  # noqa: E402
from training.services.snapshots import freeze_snapshot  # noqa: E402

pytestmark = [pytest.mark.recipes, pytest.mark.django_db]


@pytest.fixture
def snapshot(project: Project, settings, tmp_path: Path):
    """Pairs with a strength or none, a ranking and ratings."""
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"
    project.eval_percent = 0
    project.save()
    rater = make_rater(project)
    for n in range(6):
        item = make_item(project, prompt=make_prompt(project, f"q {n}"), texts=[f"yes {n}", f"no {n} ü"])
        make_judgment(item, rater, choice="a", strength="better" if n % 2 else "")
        make_judgment(make_item(project, 1, prompt=make_prompt(project, f"r {n}")), rater, value=1 + n % 5)
    ranked = make_item(project, texts=["one", "two", "three"])
    make_judgment(ranked, rater, ranking=[[completion.pk] for completion in completions_of(ranked)])
    return freeze_snapshot(project, SnapshotQuery(margin="small"))


def load(snapshot, tmp_path: Path, fmt: str, file: str = "jsonl"):
    export = Export(snapshot.project, fmt, snapshot=snapshot, file=file)
    path = tmp_path / export.name
    write_export(iter_export(export), path)
    kind = "parquet" if file == "parquet" else "json"
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))


def settings_for(tmp_path: Path, **more) -> dict:
    return {
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "max_length": 64,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 1e-3,
        **more,
    }


def check_step(trainer) -> dict:
    """One step whose loss is a number and which moved the weights; the first log line."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    logged = next(line for line in trainer.state.log_history if "loss" in line)
    assert math.isfinite(logged["loss"])
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    return logged


@pytest.mark.parametrize("fmt", ["trl-preference", "trl-preference-text", "trl-conversations"])
def test_dpo(snapshot, tiny_model, tmp_path, fmt):
    from trl import DPOConfig, DPOTrainer

    data = load(snapshot, tmp_path, fmt)
    assert data.num_rows == 9
    trainer = DPOTrainer(model=str(tiny_model), args=DPOConfig(**settings_for(tmp_path)), train_dataset=data)
    assert check_step(trainer)["loss"] == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("file", ["jsonl", "parquet"])
def test_reward_with_margin(snapshot, tiny_model, tmp_path, file):
    from trl import RewardConfig, RewardTrainer

    data = load(snapshot, tmp_path, "trl-reward", file)
    assert sorted(data["margin"]) == pytest.approx([0] * 6 + [2 / 3] * 3)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    arguments = RewardConfig(**settings_for(tmp_path, per_device_train_batch_size=9))
    trainer = RewardTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    assert sorted(batch["margin"].flatten().tolist()) == pytest.approx([0] * 6 + [2 / 3] * 3)
    check_step(trainer)


def test_kto(snapshot, tiny_model, tmp_path):
    from trl import KTOConfig, KTOTrainer

    data = load(snapshot, tmp_path, "trl-unpaired")
    # nine pairs; of the ratings 1 2 3 4 5 1 the middle one says nothing
    assert (sum(data["label"]), data.num_rows) == (9 + 2, 18 + 5)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    arguments = KTOConfig(**settings_for(tmp_path))
    check_step(
        KTOTrainer(model=str(tiny_model), args=arguments, train_dataset=data, processing_class=tokenizer)
    )


@pytest.mark.parametrize("fmt", ["sft", "openai-chat"])
def test_sft(snapshot, tiny_model, tmp_path, fmt):
    from trl import SFTConfig, SFTTrainer

    data = load(snapshot, tmp_path, fmt)
    assert data.num_rows == 6 + 1 + 1
    check_step(
        SFTTrainer(model=str(tiny_model), args=SFTConfig(**settings_for(tmp_path)), train_dataset=data)
    )


def test_the_rankings_load(snapshot, tmp_path):
    (row,) = load(snapshot, tmp_path, "ranking")
    assert [response[0]["content"] for response in row["completions"]] == ["one", "two", "three"]
    assert row["ranks"] == [1, 2, 3]
