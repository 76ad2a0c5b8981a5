"""The shape of a model, read from its files without loading it. Imports no torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER_LIMIT = 100 * 2**20


@dataclass(frozen=True)
class ModelShape:
    """What the files say of a model: the shape of each tensor by name, and its configuration."""

    tensors: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensors.values())

    @property
    def hidden(self) -> int:
        return int(self.setting("hidden_size", "n_embd", "d_model", default=1024))

    @property
    def layers(self) -> int:
        return int(self.setting("num_hidden_layers", "n_layer", "num_layers", default=24))

    @property
    def vocabulary(self) -> int:
        return int(self.setting("vocab_size", default=32_000))

    @property
    def cache_width(self) -> int:
        """Width of a token's keys (or values) in a block."""
        heads = int(self.setting("num_attention_heads", "n_head", default=16))
        shared = int(self.setting("num_key_value_heads", default=heads))
        return self.hidden * shared // heads

    @property
    def block_activations(self) -> int:
        """Numbers per token that a block keeps for its backward pass: norms, residuals, queries, keys, values
        and their rotated copies; in a gated layer four of the inner width, otherwise two.
        """
        inner = int(self.setting("intermediate_size", "n_inner", "ffn_dim", default=4 * self.hidden))
        gated = any("gate" in name for name in self.tensors)
        return 10 * self.hidden + 4 * self.cache_width + (4 if gated else 2) * inner

    @property
    def context(self) -> int | None:
        found = self.setting("max_position_embeddings", "n_positions", default=None)
        return None if found is None else int(found)

    def setting(self, *names: str, default: Any) -> Any:
        nested = self.config.get("text_config")
        for source in (self.config, nested if isinstance(nested, Mapping) else {}):
            for name in names:
                if source.get(name) is not None:
                    return source[name]
        return default

    @property
    def matrices(self) -> dict[str, tuple[int, ...]]:
        """The linear layers inside the model, which adapters go on."""
        outside = ("embed", "lm_head", "score", "wte", "wpe")
        return {
            name.removesuffix(".weight"): shape
            for name, shape in self.tensors.items()
            if len(shape) == 2 and name.endswith(".weight") and not any(word in name for word in outside)
        }


def read_shape(folder: Path) -> ModelShape | None:
    """The shape of the model in a folder; None where there is no config.json with safetensors beside it.

    Of an adapter it is that of its base in the folder `base`.
    """
    if (folder / "base").is_dir() and (folder / "adapter_config.json").is_file():
        folder = folder / "base"
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        return None
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        tensors = {name: shape for file in files for name, shape in read_header(file).items()}
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return ModelShape(tensors, config) if isinstance(config, dict) else None


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file: a length of 8 bytes, then JSON (its format's description)."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER_LIMIT:
            raise ValueError(f"{path}: is no safetensors file")
        header = json.loads(file.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
