"""Run directories: everything a recipe needs, written before it starts; the whole contract with it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings as site

from rating.models import Item, ModelVersion, Prompt, Split
from training.models import DatasetSnapshot, Evaluation, TrainingRun
from training.recipes.spec import CANCEL_FILE, REWARD_RECIPES, SPEC_FILE, Spec, SpecError, parse_spec
from training.services.derived import DERIVED_FROM, derive_rows
from training.services.files import hash_file, link_or_copy, write_atomically
from training.services.model_files import PrepareError, place_adapter, place_model, place_reference
from training.services.runs import NO_POLICY, NO_REWARD_MODEL, Purpose, chain_of, needs_reward_model
from training.services.sampling import least_used_prompts
from training.services.snapshots import Frozen, SnapshotError, read_manifest
from training.services.versions import newest_reward_version

PROBES_OFFERED = 64
LOCK_FILE = "lock"
LOCK_SECONDS = 10.0
SNAPSHOT_STEMS = {
    "sft": "sft",
    "reward": "preference",
    "reward_rating": "rating",
    "dpo": "preference",
    "orpo": "preference",
    "simpo": "preference",
    "ppo": "prompts",
    "rloo": "prompts",
    "grpo": "prompts",
    "online_dpo": "prompts",
    "rejection": "prompts",
}
BEST_FILE = "best.jsonl"


class DirectoryBusyError(Exception):
    """A process of a former attempt still works in the run directory."""


@contextmanager
def lock_directory(directory: Path) -> Iterator[int]:
    """Hold the run directory's lock. The child inherits the descriptor, so it holds as long as that lives.

    Raises:
        DirectoryBusyError: somebody else holds it, also after the wait.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise DirectoryBusyError(f"{directory}: a former attempt's process is still at work there.")
            time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def prepare_run_directory(run: TrainingRun) -> Spec:
    """Write the run's data/, models/ and, last and atomically, spec.json; return the specification.

    A directory that was prepared before is left as it is, so that a run that goes on finds what it began
    with. `run.policy` is set to what an earlier run of the chain made, if one did.

    Raises:
        PrepareError: something is missing or damaged, or the disk is full; says what.
    """
    try:
        return read_spec(run) or write_run_directory(run)
    except SpecError as error:
        raise PrepareError("bad_spec", f"The settings do not make a valid specification: {error}") from error
    except OSError as error:
        raise name_os_error(run, error) from error


def name_os_error(run: TrainingRun, error: OSError) -> PrepareError:
    """What a file system's refusal means for the run."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"The disk is full ({run.directory}): free some space and start the run again."
        return PrepareError("disk_full", message)
    return PrepareError("bad_data", f"The run directory cannot be read or written: {error}")


def read_spec(run: TrainingRun) -> Spec | None:
    """The specification that was written before; None when there is none yet."""
    path = run.directory / SPEC_FILE
    if not path.exists():
        return None
    try:
        return parse_spec(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise PrepareError("bad_spec", f"{path} was changed and cannot be read: {error}") from error


def write_run_directory(run: TrainingRun) -> Spec:
    """Fill a fresh directory, or one whose preparation was cut short."""
    for name in ("data", "models"):
        (run.directory / name).mkdir(parents=True, exist_ok=True)
    resolve_policy(run)
    raw: dict[str, Any] = {"threads": site.TRAINING_THREADS, **run.settings, "recipe": run.recipe}
    if run.recipe == "sample":
        raw |= prepare_sampling(run)
    else:
        raw |= prepare_learning(run)
    spec = parse_spec(raw)
    write_atomically(run.directory / SPEC_FILE, [spec.model_dump_json(indent=2), "\n"])
    return spec


def write_cancel(run: TrainingRun) -> None:
    """Ask the recipe to stop at its next step."""
    (run.directory / CANCEL_FILE).touch()


def resolve_policy(run: TrainingRun) -> None:
    """Let the run work on what the nearest earlier run of its chain made of the policy."""
    for earlier in chain_of(run.after):
        made = earlier.model_version
        if made is not None and made.kind == ModelVersion.Kind.POLICY:
            run.policy = made
            run.save(update_fields=["policy"])
            return


def resolve_reward_model(run: TrainingRun) -> ModelVersion | None:
    """The reward model of the run's chain, else the project's newest."""
    for earlier in chain_of(run.after):
        made = earlier.model_version
        if made is not None and made.kind == ModelVersion.Kind.REWARD:
            return made
    return newest_reward_version(run.project)


def prepare_learning(run: TrainingRun) -> dict[str, Any]:
    """data, model, reward_model and probes of a run that trains."""
    if run.snapshot is None:
        raise PrepareError("bad_data", "The run has no snapshot to learn from.")
    if run.policy is None:
        raise PrepareError("bad_model", NO_POLICY)
    parts: dict[str, Any] = {
        "data": {split: place_learning_rows(run, run.snapshot, split) for split in ("train", "eval")}
    }
    if parts["data"]["train"] is None:
        stems = " and ".join(
            f"{stem}.train.jsonl" for stem in DERIVED_FROM.get(run.recipe) or [SNAPSHOT_STEMS[run.recipe]]
        )
        raise PrepareError(
            "bad_data", f"Snapshot {run.snapshot.number} has no rows for {run.recipe} ({stems} is empty)."
        )
    parts["model"] = place_model(run, "policy", run.policy)
    if needs_reward_model(run.recipe):
        reward_model = resolve_reward_model(run)
        if reward_model is None:
            raise PrepareError("bad_model", NO_REWARD_MODEL % {"recipe": run.recipe})
        parts["reward_model"] = place_model(run, "reward", reward_model)
        if run.settings.get("backbone") == "shared":
            place_adapter(run, "reward", reward_model)
    if run.recipe == "rejection":
        parts["kept"] = place_kept(run)
    if run.settings.get("pretraining"):
        parts["pretraining"] = place_pretraining(run, run.snapshot)
    if run.recipe not in REWARD_RECIPES:
        parts["probes"] = place_probes(run, run.snapshot)
    return parts


def prepare_sampling(run: TrainingRun) -> dict[str, Any]:
    """data, models, reward_model and reference of a run that writes responses."""
    if run.policy is None:
        raise PrepareError("bad_model", NO_POLICY)
    parts: dict[str, Any] = {"data": {"prompts": place_prompts(run)}}
    writers = {"policy": run.policy}
    if run.purpose == Purpose.EVALUATE:
        evaluation = Evaluation.objects.select_related("candidate", "baseline").get(sampling_run=run)
        writers = {"candidate": evaluation.candidate, "baseline": evaluation.baseline}
        parts["reference"] = place_reference(run, writers)
    parts["models"] = {key: place_model(run, key, version) for key, version in writers.items()}
    if run.purpose != Purpose.COLLECT:
        reward_model = resolve_reward_model(run)
        parts["reward_model"] = place_model(run, "reward", reward_model) if reward_model else None
    return parts


def place_prompts(run: TrainingRun) -> str:
    """data/prompts.jsonl: held-out prompts for an evaluation, any for new responses, else the snapshot's."""
    if run.purpose == Purpose.TRAIN:
        if run.snapshot is None:
            raise PrepareError("bad_data", "The run has no snapshot whose prompts could be answered.")
        for name in ("prompts.eval.jsonl", "prompts.train.jsonl"):
            if placed := place_rows(run, run.snapshot, name):
                return placed
        raise PrepareError("bad_data", f"Snapshot {run.snapshot.number} has no prompts.")
    purpose = Item.Purpose.EVALUATE if run.purpose == Purpose.EVALUATE else Item.Purpose.COLLECT
    prompts = least_used_prompts(run.project, purpose)
    if run.purpose == Purpose.EVALUATE:
        prompts = prompts.filter(split=Split.EVAL)
    limit = run.settings.get("limit")
    count = write_prompts(run.directory / "data" / "prompts.jsonl", prompts[:limit])
    if not count:
        raise PrepareError("bad_data", "The project has no prompts to answer.")
    return "data/prompts.jsonl"


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> int:
    """Write {"id": text_hash, "prompt": messages} lines; returns how many."""
    lines = [
        json.dumps({"id": prompt.text_hash, "prompt": prompt.messages}, ensure_ascii=False) + "\n"
        for prompt in prompts
    ]
    write_atomically(path, lines)
    return len(lines)


def place_learning_rows(run: TrainingRun, snapshot: DatasetSnapshot, split: str) -> str | None:
    """The recipe's rows of a split in data/: the snapshot's file, or one made of it; None without rows."""
    if run.recipe not in DERIVED_FROM:
        return place_rows(run, snapshot, f"{SNAPSHOT_STEMS[run.recipe]}.{split}.jsonl")
    placed = {stem: place_rows(run, snapshot, f"{stem}.{split}.jsonl") for stem in DERIVED_FROM[run.recipe]}
    sources = {stem: run.directory / name for stem, name in placed.items() if name}
    target = f"data/{run.recipe}.{split}.jsonl"
    return target if derive_rows(run.recipe, sources, run.directory / target) else None


def place_rows(run: TrainingRun, snapshot: DatasetSnapshot, name: str) -> str | None:
    """Put a file of the snapshot into data/ after checking its hash; None when it has no rows."""
    source = snapshot.directory / name
    expected = frozen_hashes(snapshot).get(name)
    if expected is None:
        return None
    if not source.is_file():
        raise PrepareError("bad_data", f"Snapshot {snapshot.number} is damaged: {source} is missing.")
    if hash_file(source) != expected:
        raise PrepareError(
            "bad_data",
            f"Snapshot {snapshot.number} is damaged: {source} is not what was frozen (its sha256 differs). "
            "Freeze a new snapshot.",
        )
    if source.stat().st_size == 0:
        return None
    link_or_copy(source, run.directory / "data" / name)
    return f"data/{name}"


def frozen_hashes(snapshot: DatasetSnapshot) -> dict[str, str]:
    """sha256 by file name as the manifest tells it, when that is the manifest that was frozen."""
    try:
        hashes = {name: entry["sha256"] for name, entry in read_manifest(snapshot)["files"].items()}
    except (SnapshotError, KeyError, TypeError, AttributeError) as error:
        raise PrepareError("bad_data", f"Snapshot {snapshot.number} is damaged: {error}") from error
    if Frozen(hashes=hashes).content_hash != snapshot.content_hash:
        raise PrepareError(
            "bad_data", f"Snapshot {snapshot.number} is damaged: its manifest is not the one that was frozen."
        )
    return hashes


def place_probes(run: TrainingRun, snapshot: DatasetSnapshot) -> dict[str, Any] | None:
    """data/probes.jsonl: held-out prompts, the same ones whenever the prompts are the same."""
    wanted = run.settings.get("probes", {})
    if wanted is None:
        return None
    for name in ("prompts.eval.jsonl", "prompts.train.jsonl"):
        if placed := place_rows(run, snapshot, name):
            lines = (run.directory / placed).read_text("utf-8").splitlines(keepends=True)
            lines.sort(key=lambda line: str(json.loads(line)["id"]))
            write_atomically(run.directory / "data" / "probes.jsonl", lines[:PROBES_OFFERED])
            return {"prompts": "data/probes.jsonl", **wanted}
    return None


def place_kept(run: TrainingRun) -> str | None:
    """data/kept.jsonl: the best responses of the project's last rejection run; None for the first round."""
    earlier = TrainingRun.objects.filter(
        project=run.project, recipe="rejection", state=TrainingRun.State.SUCCEEDED
    ).exclude(pk=run.pk)
    last = earlier.order_by("-number").first()
    if last is None or not (last.directory / BEST_FILE).is_file():
        return None
    link_or_copy(last.directory / BEST_FILE, run.directory / "data" / "kept.jsonl")
    return "data/kept.jsonl"


def place_pretraining(run: TrainingRun, snapshot: DatasetSnapshot) -> dict[str, Any]:
    """data/sft.train.jsonl: the demonstrations that PPO goes on imitating."""
    placed = place_rows(run, snapshot, "sft.train.jsonl")
    if placed is None:
        raise PrepareError(
            "bad_data",
            f"Snapshot {snapshot.number} has no demonstrations for pretraining (sft.train.jsonl is empty).",
        )
    return {"file": placed, **run.settings["pretraining"]}
