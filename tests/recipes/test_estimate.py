"""What a run is thought to need: by hand on small shapes, against what was measured, and as a refusal."""

import json
import math
import struct
from pathlib import Path

import pytest

from tests.recipes.conftest import assistant, byte_tokenizer, preference_rows, user
from training.recipes.spec import parse_spec
from training.recipes.spec.estimate import count_trained, disk_bytes, estimate, what_would_fit
from training.recipes.spec.machine import free_disk, free_memory, show_bytes
from training.recipes.spec.shapes import ModelShape, read_shape

# Two blocks of width 8: four square matrices and a gated layer of inner width 16; 100 tied embeddings.
BLOCK = {f"self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"}
BLOCK |= {"mlp.gate_proj.weight": (16, 8), "mlp.up_proj.weight": (16, 8), "mlp.down_proj.weight": (8, 16)}
TENSORS = {f"model.layers.{layer}.{name}": shape for layer in (0, 1) for name, shape in BLOCK.items()}
TENSORS |= {"model.embed_tokens.weight": (100, 8), "model.norm.weight": (8,)}
CONFIG = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100}
SHAPE = ModelShape(TENSORS, CONFIG | {"intermediate_size": 16, "num_key_value_heads": 1})
INSIDE = 2 * (4 * 64 + 3 * 128)


def spec_of(**changes: object):
    return parse_spec({"recipe": "sft", "data": {"train": "data/t.jsonl"}, "model": "m", **changes})


@pytest.mark.parametrize(
    ("train", "count"),
    [
        ({"kind": "all"}, INSIDE + 808),
        ({"kind": "last_layers", "layers": 1}, INSIDE // 2),
        ({"kind": "head"}, 800),
        ({"kind": "lora", "r": 2}, 2 * 2 * (4 * 16 + 3 * 24)),
        ({"kind": "lora", "r": 2, "targets": ["q_proj"]}, 2 * 2 * 16),
        ({"kind": "lora", "r": 2, "targets": ["q_proj"], "variant": "adalora"}, 2 * 3 * 16),
        ({"kind": "prompt", "tokens": 5}, 40),
        ({"kind": "prefix", "tokens": 5}, 5 * 2 * 2 * 4),
    ],
)
def test_what_is_trained_is_counted(train: dict, count: int) -> None:
    assert SHAPE.parameters == INSIDE + 808
    assert count_trained(spec_of(train=train), SHAPE) == count


def test_memory_and_disk_by_hand() -> None:
    whole = spec_of(train={"kind": "all"}, batch_size=2, max_length=16)
    need = estimate(whole, SHAPE)
    parameters = SHAPE.parameters
    assert need.parts["weights"] + need.parts["gradients and optimiser"] == 16 * parameters
    kept = 10 * 8 + 4 * 4 + 4 * 16  # numbers per token and block
    assert need.parts["activations"] == int(1.25 * 4 * 2 * 16 * 2 * kept) + 16 * 2 * 16 * 100
    assert need.memory == sum(need.parts.values())
    assert disk_bytes(whole, [(SHAPE, parameters)]) == 3 * 12 * parameters + 4 * parameters
    alone = spec_of(train={"kind": "lora", "r": 2, "save": "adapter"})
    assert disk_bytes(alone, [(SHAPE, 100)]) == 3 * 1200 + 400
    quantised = estimate(spec_of(train={"kind": "qlora", "r": 2}), SHAPE, kind="cuda").parts["weights"]
    assert quantised == int(0.6 * parameters) + 4 * 544
    assert (
        estimate(spec_of(train={"kind": "all"}, max_length=16), SHAPE, longest_row=8).memory < need.memory * 4
    )


def test_ppo_holds_four_models_and_pairs_are_two_rows() -> None:
    ppo = {"recipe": "ppo", "reward_model": "r", "train": {"kind": "all"}}
    parts = estimate(spec_of(**ppo), SHAPE).parts
    assert parts["weights"] == 4 * 4 * SHAPE.parameters
    assert parts["gradients and optimiser"] == 2 * 12 * SHAPE.parameters
    same = {"train": {"kind": "all"}, "max_length": 64}
    rows, pairs = spec_of(batch_size=8, **same), spec_of(recipe="dpo", batch_size=4, **same)
    assert estimate(rows, SHAPE).parts["activations"] == estimate(pairs, SHAPE).parts["activations"]


def test_time_grows_with_the_rows() -> None:
    spec = spec_of(train={"kind": "all"}, threads=1, epochs=1, batch_size=8)
    assert estimate(spec, SHAPE).seconds is None
    seconds = estimate(spec, SHAPE, rows=80, row_bytes=396).seconds
    assert seconds == pytest.approx(10 * 8 * 100 * 6 * SHAPE.parameters / 2e10)


def test_what_would_fit_is_found() -> None:
    spec = spec_of(train={"kind": "all"}, batch_size=64, max_length=512)
    need = estimate(spec, SHAPE).memory
    ways = what_would_fit(spec, SHAPE, need - 1)
    assert ways[0].startswith("batch_size 32 with gradient_accumulation 2 (")
    assert any("max_length 256" in way for way in ways)
    assert what_would_fit(spec, SHAPE, 1000) == []


def test_headers_are_read_without_the_weights(tmp_path: Path) -> None:
    header = json.dumps(
        {"__metadata__": {}, "a.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}
    )
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    assert read_shape(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 4}}))
    shape = read_shape(tmp_path)
    assert shape is not None
    assert (dict(shape.tensors), shape.hidden, shape.parameters) == ({"a.weight": (3, 4)}, 4, 12)
    for broken in (b"", struct.pack("<Q", 2**60), struct.pack("<Q", 4) + b"none"):
        (tmp_path / "model.safetensors").write_bytes(broken)
        assert read_shape(tmp_path) is None


def test_the_machine_is_read() -> None:
    assert (free_memory() or 0) > 2**20
    assert free_disk(Path("/no/such/folder")) == free_disk(Path("/"))
    assert [show_bytes(n) for n in (7, 1500, 2_340_000, 5e9, 7e12)] == [
        "7 bytes",
        "1.5 kB",
        "2.34 MB",
        "5 GB",
        "7 TB",
    ]


@pytest.mark.recipes
def test_the_estimate_is_within_a_factor_of_two_of_what_was_held(folder, tmp_path: Path) -> None:
    """One step of a model of 4 million parameters on 16 rows of 400 tokens: mostly activations."""
    pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True, **sizes
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    row = {"prompt": user("q" * 100), "completion": assistant("y" * 280)}
    spec = {
        "recipe": "sft",
        "data": {"train": "data/t.jsonl"},
        "model": str(tmp_path / "model"),
        "max_steps": 1,
    }
    run = folder("run", {**spec, "batch_size": 16, "train": {"kind": "all"}}, {"data/t.jsonl": [row] * 16})
    assert run.run().returncode == 0
    result = run.result()
    assert result["estimate"]["activations"] > 5e8
    assert 0.5 < result["estimate"]["memory"] / result["peak_memory"]["process"] < 2
    written = sum(path.stat().st_size for path in (run.path / "output").iterdir())
    assert math.isclose(written, 4 * read_shape(tmp_path / "model").parameters, rel_tol=0.05)


@pytest.mark.recipes
def test_what_cannot_fit_is_refused_before_anything_is_loaded(folder, tmp_path: Path) -> None:
    """A model said to have ten thousand million parameters; its header alone is there."""
    big = tmp_path / "big"
    big.mkdir()
    tensors = {"model.layers.0.mlp.up_proj.weight": {"dtype": "BF16", "shape": [100_000, 100_000]}}
    header = json.dumps({name: entry | {"data_offsets": [0, 0]} for name, entry in tensors.items()})
    (big / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    (big / "config.json").write_text(json.dumps({"hidden_size": 64, "num_hidden_layers": 1}))
    rows = {
        "data/t.jsonl": [{"prompt": row["prompt"], "completion": row["chosen"]} for row in preference_rows(2)]
    }
    spec = {"recipe": "sft", "data": {"train": "data/t.jsonl"}, "model": str(big), "train": {"kind": "all"}}
    refused = folder("refused", spec, rows)
    tried = folder("tried", {**spec, "estimate": "warn"}, rows)
    from tests.recipes.conftest import run_together

    assert run_together(refused, tried) == [1, 1]
    error = refused.result()["error"]
    assert error["code"] == "out_of_memory"
    assert "161 GB" in error["message"]
    assert "are free" in error["message"]
    assert "train.kind lora" in error["message"] or "A smaller model" in error["message"]
    assert tried.result()["error"]["code"] == "bad_model"  # it went on to load it
    assert any("161 GB" in event["message"] for event in tried.events("warning"))
