"""The reference's log-probabilities, computed once and kept between runs by what they are made of.

The environment names a folder (RATCHET_REFERENCE_CACHE); without one nothing is kept. A file's name is a
hash of all that decides its numbers: the reference's weights and configuration, the rows as tokens (so the
tokenizer and the chat template), the longest length, how the rows are batched, the device, the threads and
the libraries. Its contents are checked against their own hash when they are read, so that a warm run has
the bits of a cold one, or computes anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from training.recipes.models import choose_device
from training.recipes.processes import any_of_all
from training.recipes.rundir import Run, package_versions

CACHE_VARIABLE = "RATCHET_REFERENCE_CACHE"
FORMAT = 1
TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids", "completion_ids", "KL_completion_ids")
Columns = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ReferenceCache:
    """A folder of kept log-probabilities, for one reference in one run."""

    folder: Path
    reference: str
    run: Run


def open_cache(run: Run, model: Any, room: int) -> ReferenceCache | None:
    """The cache for a reference with the model's present weights; None where the environment names no
    folder.
    """
    folder = os.environ.get(CACHE_VARIABLE)
    if not folder:
        return None
    digest = hashlib.sha256(
        json.dumps([FORMAT, room, str(model.device), run.spec.threads, package_versions()]).encode()
    )
    config = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return ReferenceCache(Path(folder), digest.hexdigest(), run)


def with_reference(
    cache: ReferenceCache | None, dataset: Dataset, batch_size: int, compute: Callable[[], Dataset]
) -> Dataset:
    """The dataset with the columns that `compute` adds to it: read from the cache, else computed and kept."""
    if cache is None:
        return compute()
    path = cache.folder / f"{name_of(cache, dataset, batch_size)}.safetensors"
    kept = read_columns(cache, path, len(dataset))
    # All processes compute together, or none does.
    missing = any_of_all(kept is None, choose_device(cache.run.spec))
    if kept is not None and not missing:
        print(f"The reference of {len(dataset)} rows was read from {path}")
        for name, values in kept.items():
            dataset = dataset.add_column(name, values.numpy())
        return dataset
    computed = compute()
    added = [name for name in computed.column_names if name not in dataset.column_names]
    write_columns(path, {name: torch.tensor(computed[name][:], dtype=torch.float32) for name in added})
    return computed


def name_of(cache: ReferenceCache, dataset: Dataset, batch_size: int) -> str:
    """The hash of everything that decides the numbers."""
    digest = hashlib.sha256(f"{cache.reference} {batch_size}".encode())
    columns = [name for name in TOKENS if name in dataset.column_names]
    for row in dataset.select_columns(columns):
        digest.update(json.dumps([row[name] for name in columns]).encode())
    return digest.hexdigest()


def hash_columns(columns: Columns) -> str:
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(name.encode())
        digest.update(columns[name].numpy().tobytes())
    return digest.hexdigest()


def read_columns(cache: ReferenceCache, path: Path, rows: int) -> Columns | None:
    """The kept columns; None where there are none, and with a warning where they are damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            told = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        columns, told = {}, None
    whole = bool(columns) and all(
        values.shape == (rows,) and values.dtype == torch.float32 for values in columns.values()
    )
    if whole and told == hash_columns(columns):
        return columns
    cache.run.emit("warning", message=f"{path.name} in the reference cache is damaged: it is computed anew")
    return None


def write_columns(path: Path, columns: Columns) -> None:
    """Keep the columns, whole or not at all, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file(columns, temporary, metadata={"sha256": hash_columns(columns)})
    temporary.replace(path)
