"""A home of its own for every test, a model directory, judged items, and runs that a small script plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rating.models import ModelVersion, Project
from tests.factories import make_item, make_judgment, make_prompt, make_rater
from training.launchers.base import Handle
from training.launchers.local import LocalHandle
from training.models import DatasetSnapshot
from training.recipes.spec import Spec
from training.services.promotions import promote_version
from training.services.snapshots import freeze_snapshot
from training.services.versions import add_base_version

FAKE_RECIPE = Path(__file__).with_name("fake_recipe.py")


@pytest.fixture(autouse=True)
def home(settings, tmp_path: Path) -> Path:
    """RATCHET_HOME, with the run directories and snapshots below."""
    settings.HOME = tmp_path / "home"
    settings.RUNS_DIR = settings.HOME / "runs"
    settings.REFERENCE_CACHE_DIR = settings.HOME / "reference-cache"
    settings.SNAPSHOTS_DIR = settings.HOME / "snapshots"
    settings.TRAINING_THREADS = 1
    return settings.HOME


def write_model(directory: Path, weights: str = "weights") -> Path:
    """A directory that looks like a model of safetensors; nothing here loads it."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"vocab_size": 512, "max_position_embeddings": 128}))
    (directory / "model.safetensors").write_text(weights)
    (directory / "tokenizer.json").write_text('{"model": "bytes"}')
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    return directory


@pytest.fixture
def base(project: Project, tmp_path: Path) -> ModelVersion:
    """A base model of the project that is not promoted."""
    return add_base_version(project, "base", str(write_model(tmp_path / "model")))


@pytest.fixture
def present(base: ModelVersion) -> ModelVersion:
    """The project's user model."""
    promote_version(base.project, base, user=None, reason="The first one.", collect=0)
    return base


def judge_pairs(project: Project, count: int, first: int = 0) -> None:
    """Judged pairs of different prompts, a preferred; most prompts are of the train split."""
    rater = make_rater(project)
    for index in range(first, first + count):
        prompt = make_prompt(project, f"How do {index} kites fly?")
        item = make_item(project, prompt=prompt, texts=[f"Gladly: {index}.", f"No {index}."])
        make_judgment(item, rater, choice="a")


@pytest.fixture
def snapshot(project: Project) -> DatasetSnapshot:
    """Thirty judged pairs, frozen; three of them or so held out."""
    judge_pairs(project, 30)
    return freeze_snapshot(project)


class FakeLauncher:
    """Starts fake_recipe.py in place of a recipe: a real process that keeps to the contract."""

    def __init__(self, *plays: str) -> None:
        self.plays = list(plays) or ["succeed"]
        self.started: list[Path] = []

    def launch(self, run_dir: Path, spec: Spec, *, lock: int) -> Handle:
        play = self.plays[min(len(self.started), len(self.plays) - 1)]
        self.started.append(run_dir)
        with (run_dir / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(FAKE_RECIPE), str(run_dir), play],
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )
        return LocalHandle(process)
