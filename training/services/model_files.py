"""The models of a run, put into its directory: whole ones and adapters, and what a KL is measured from."""

from __future__ import annotations

import json
from pathlib import Path

from rating.models import ModelVersion
from training.models import TrainingRun
from training.services.files import hash_file, link_or_copy
from training.services.versions import TOKENIZER_FILES, is_hub_id, model_files

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class PrepareError(Exception):
    """A run that cannot be prepared, with one of the recipes' codes: bad_data, bad_model, ..."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


def place_model(run: TrainingRun, key: str, version: ModelVersion) -> str:
    """Put the version's files into models/KEY, checked against their hashes; a hub id is passed on.

    Of an adapter, the model that it lies over goes into models/KEY/base.
    """
    if not version.adapter:
        if is_hub_id(version.base):
            return version.base
        place_files(version, Path(version.base), run.directory / "models" / key, version.files)
        return f"models/{key}"
    target = run.directory / "models" / key
    place_files(version, Path(version.adapter), target, version.files)
    if not is_hub_id(version.base):
        whole = ModelVersion.objects.filter(project=run.project_id, base=version.base, adapter="").first()
        place_files(version, Path(version.base), target / "base", whole.files if whole else {})
    return f"models/{key}"


def place_files(version: ModelVersion, source: Path, target: Path, hashes: dict[str, str]) -> None:
    """Link or copy a model's files into `target`; with `hashes` those, else what makes up a model."""
    if not source.name or not source.is_dir():
        raise PrepareError(
            "bad_model",
            f"The directory of {version.name} is missing: {source if source.name else 'none named'}.",
        )
    target.mkdir(parents=True, exist_ok=True)
    for name in sorted(hashes) or [path.name for path in model_files(source)]:
        place_model_file(version, source / name, target / name, hashes.get(name))


def place_adapter(run: TrainingRun, key: str, version: ModelVersion) -> None:
    """Put the adapter that the version was merged from into models/KEY/adapter.

    The recipe checks that its sum with the base is the version's weights, whose hashes are known.
    """
    target = run.directory / "models" / key / "adapter"
    target.mkdir(parents=True, exist_ok=True)
    for name in ADAPTER_FILES:
        source = Path(version.base) / "adapter" / name
        if not source.is_file():
            raise PrepareError(
                "bad_model",
                f"{version.name} has no adapter ({source} is missing): a shared backbone needs a reward "
                "model that was trained with train.kind lora and train.save merged. Take backbone separate, "
                "or train one.",
            )
        link_or_copy(source, target / name)


def place_model_file(version: ModelVersion, source: Path, target: Path, expected: str | None) -> None:
    """Link or copy one file of a model, if it is what it was when the version was made."""
    if not source.is_file():
        raise PrepareError("bad_model", f"{version.name} is damaged: {source} is missing.")
    if expected and hash_file(source) != expected:
        raise PrepareError(
            "bad_model", f"{version.name} is damaged: {source} is not what it was (its sha256 differs)."
        )
    link_or_copy(source, target)


def place_reference(run: TrainingRun, writers: dict[str, ModelVersion]) -> str | None:
    """The model that the candidate's line began with, to measure the KL from; None where there is no KL.

    There is one only between models that share their tokenizer and vocabulary; a hub model's are not known.
    """
    reference = first_of_line(writers["candidate"])
    versions = [reference, *writers.values()]
    if any(is_hub_id(version.base) for version in versions):
        return None
    if len({vocabulary_of(Path(version.base)) for version in versions}) > 1:
        return None
    return place_model(run, "reference", reference)


def first_of_line(version: ModelVersion) -> ModelVersion:
    """The version without a parent that this one descends from (two queries)."""
    parents = dict(ModelVersion.objects.filter(project=version.project_id).values_list("pk", "parent"))
    first = version.pk
    while (parent := parents.get(first)) is not None:
        first = parent
    return version if first == version.pk else ModelVersion.objects.get(pk=first)


def vocabulary_of(directory: Path) -> tuple[object, ...]:
    """What must be equal for two models to speak in the same tokens: the size and the tokenizer's files."""
    hashes = [hash_file(directory / name) for name in TOKENIZER_FILES if (directory / name).is_file()]
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except ValueError:
        config = {}
    size = config.get("vocab_size") if isinstance(config, dict) else None
    return (size, *hashes)
