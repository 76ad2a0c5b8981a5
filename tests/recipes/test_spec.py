"""The specification: what is accepted comes back the same, what is refused is explained by field."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.recipes.spec import (
    ERROR_CODES,
    EVENT_KINDS,
    RECIPES,
    BaseSpec,
    DpoSpec,
    PpoSpec,
    SpecError,
    parse_spec,
)

ROOT = Path(__file__).parents[2]
SMALLEST = {
    "sft": {"recipe": "sft", "data": {"train": "data/train.jsonl"}, "model": "models/policy"},
    "reward": {"recipe": "reward", "data": {"train": "data/train.jsonl"}, "model": "owner/name"},
    "reward_ranking": {"recipe": "reward_ranking", "data": {"train": "data/r.jsonl"}, "model": "owner/name"},
    "reward_rating": {"recipe": "reward_rating", "data": {"train": "data/r.jsonl"}, "model": "owner/name"},
    "dpo": {"recipe": "dpo", "data": {"train": "data/train.jsonl"}, "model": "/models/base"},
    "kto": {"recipe": "kto", "data": {"train": "data/train.jsonl"}, "model": "/models/base"},
    "orpo": {"recipe": "orpo", "data": {"train": "data/train.jsonl"}, "model": "/models/base"},
    "simpo": {"recipe": "simpo", "data": {"train": "data/train.jsonl"}, "model": "/models/base"},
    "ppo": {
        "recipe": "ppo",
        "data": {"train": "data/train.jsonl"},
        "model": "models/policy",
        "reward_model": "models/reward",
    },
    **{
        name: {
            "recipe": name,
            "data": {"train": "data/train.jsonl"},
            "model": "models/policy",
            "reward_model": "models/reward",
        }
        for name in ("rloo", "grpo", "online_dpo", "rejection")
    },
    "sample": {"recipe": "sample", "data": {"prompts": "data/p.jsonl"}, "models": {"candidate": "models/c"}},
}


def problems(raw: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(raw)
    return dict(caught.value.problems)


def test_no_torch_comes_with_the_specification() -> None:
    code = (
        "import sys, training.recipes.spec, training.recipes.rundir, training.recipes.data\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'django'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_recipe_has_a_smallest_specification() -> None:
    assert set(SMALLEST) == set(RECIPES)
    for name, raw in SMALLEST.items():
        spec = parse_spec(raw)
        assert spec.recipe == name
        assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("spec_class", RECIPES.values(), ids=RECIPES)
def test_every_setting_can_be_explained_in_a_form(spec_class: type[BaseSpec]) -> None:
    for name, field in spec_class.model_fields.items():
        if name == "recipe":
            continue
        assert field.description or name == "data", name
        assert name == "data" or set(field.json_schema_extra) == {"unit", "source"}, name


def test_constants_name_what_the_events_and_errors_are_called() -> None:
    assert {"started", "metrics", "checkpoint", "finished", "cancelled", "failed"} < set(EVENT_KINDS)
    assert {"out_of_memory", "disk_full", "nan_loss", "stuck_loss", "crash"} < set(ERROR_CODES)


def test_what_is_no_specification_is_refused() -> None:
    assert "object" in problems([1])[""]
    assert ", ".join(RECIPES) in problems({})["recipe"]
    assert "'magic' is unknown" in problems({"recipe": "magic"})["recipe"]


@pytest.mark.parametrize(
    ("recipe", "change", "field", "words"),
    [
        ("dpo", {"bta": 1}, "bta", "did you mean beta?"),
        ("dpo", {"beta": 0}, "beta", "greater than 0"),
        ("dpo", {"beta": float("nan")}, "beta", "finite"),
        ("dpo", {"label_smoothing": 0.1}, "label_smoothing", "robust"),
        ("dpo", {"loss_type": "exo_pair"}, "label_smoothing", "above 0"),
        ("dpo", {"learning_rate": "fast"}, "learning_rate", "valid number"),
        ("dpo", {"model": "../../etc"}, "model", ".."),
        ("dpo", {"train": {"kind": "lora", "targets": ["lm_head"]}}, "train.targets.0", "output layer"),
        ("dpo", {"train": {"kind": "lora", "alfa": 1}}, "train.alfa", "did you mean alpha?"),
        ("dpo", {"train": {"kind": "some"}}, "train.kind", "one of all, last_layers, head, lora"),
        ("dpo", {"train": {"r": 4}}, "train.kind", "one of all"),
        ("dpo", {"train": None}, "train", "dictionary"),
        ("dpo", {"train": {"kind": "all", "r": 4}}, "train.r", "not a setting of train"),
        ("dpo", {"lora": {"r": 0}}, "train.r", "greater than or equal to 1"),
        ("sft", {"train": {"kind": "last_layers", "layers": 0}}, "train.layers", "greater than"),
        ("sft", {"train": {"kind": "prompt", "tokens": 0}}, "train.tokens", "greater than"),
        ("sft", {"train": {"kind": "qlora"}, "device": "cpu"}, "train.kind", "CUDA"),
        ("sft", {"packing": True, "train": {"kind": "prefix"}}, "packing", "virtual tokens"),
        ("sft", {"patience": 2}, "eval_every", "how often"),
        ("dpo", {"patience": 2, "eval_every": 5}, "data.eval", "held-out rows"),
        ("dpo", {"patience": 0}, "patience", "greater than or equal to 1"),
        ("dpo", {"min_learning_rate_ratio": 2}, "min_learning_rate_ratio", "less than or equal to 1"),
        ("ppo", {"train": {"kind": "prefix"}}, "train.kind", "ppo cannot train prefix"),
        ("ppo", {"train": {"kind": "lora", "variant": "adalora"}}, "train.variant", "cannot train adalora"),
        ("dpo", {"data": {"train": "/etc/passwd"}}, "data.train", "relative"),
        ("dpo", {"data": {}}, "data.train", "required"),
        ("dpo", {"output": "a\0b"}, "output", "plain text"),
        ("dpo", {"seed": -1}, "seed", "greater than or equal to 0"),
        ("dpo", {"version": 2}, "version", "1"),
        ("reward", {"loss": "hinge"}, "loss", "bradley_terry"),
        ("reward", {"loss": "scaled", "margins": "none"}, "margins", "scaled weighs"),
        ("reward", {"loss": "davidson", "margins": "small"}, "margins", "davidson has no margin"),
        ("reward", {"tie_parameter": 1}, "tie_parameter", "only davidson and rao_kupper"),
        ("reward", {"loss": "davidson", "tie_parameter": 0}, "tie_parameter", "greater than 0"),
        ("reward", {"heads": ["safety", "safety"]}, "heads", "once"),
        ("reward", {"heads": ["a b"]}, "heads.0", "match"),
        ("reward", {"ensemble": 0}, "ensemble", "greater than or equal to 1"),
        ("reward", {"agreement": 0.4}, "agreement", "greater than or equal to 0.5"),
        ("reward_ranking", {"loss": "scaled"}, "loss", "bradley_terry"),
        ("reward_rating", {"levels": 1}, "levels", "greater than or equal to 2"),
        ("reward_rating", {"loss": "bradley_terry"}, "loss", "regression"),
        ("dpo", {"agreement": 0.8}, "agreement", "only cdpo and robust"),
        ("dpo", {"loss_type": "cdpo", "agreement": 0.5}, "agreement", "greater than 0.5"),
        (
            "dpo",
            {"loss_type": "cdpo", "agreement": 0.8, "label_smoothing": 0.1},
            "agreement",
            "one of the two",
        ),
        ("dpo", {"tie_parameter": 1}, "tie_parameter", "only davidson and rao_kupper"),
        ("dpo", {"margins": "none"}, "margins", "small"),
        ("dpo", {"offset_scale": 0}, "offset_scale", "greater than 0"),
        ("kto", {"batch_size": 1}, "batch_size", "greater than or equal to 2"),
        ("kto", {"desirable_weight": 0}, "desirable_weight", "greater than 0"),
        ("orpo", {"beta": -1}, "beta", "greater than 0"),
        ("simpo", {"gamma_ratio": -1}, "gamma_ratio", "greater than or equal to 0"),
        ("simpo", {"gamma": 1}, "gamma", "did you mean gamma_ratio?"),
        ("ppo", {"minibatch_size": 5}, "minibatch_size", "divide"),
        ("ppo", {"max_new_tokens": 512}, "max_new_tokens", "less than max_length"),
        ("ppo", {"backbone": "shared", "train": {"kind": "all"}}, "backbone", "needs train.kind lora"),
        ("rloo", {"beta": 0}, "beta", "greater than 0"),
        ("rloo", {"samples_per_prompt": 1}, "samples_per_prompt", "greater than or equal to 2"),
        ("grpo", {"beta": 0}, "beta", "greater than 0"),
        ("grpo", {"batch_size": 7}, "batch_size", "divide prompts_per_step times samples_per_prompt (128)"),
        ("grpo", {"loss_type": "sapo"}, "loss_type", "grpo"),
        ("online_dpo", {"batch_size": 7}, "batch_size", "divide prompts_per_step"),
        ("online_dpo", {"max_new_tokens": 512}, "max_new_tokens", "less than max_length"),
        ("rejection", {"samples_per_prompt": 0}, "samples_per_prompt", "greater than or equal to 1"),
        ("rejection", {"kept": "../best.jsonl"}, "kept", ".."),
        ("rejection", {"max_new_tokens": 512}, "max_new_tokens", "less than max_length"),
        ("ppo", {"stop_on": ["nan"]}, "stop_on.0", "kl_budget"),
        ("ppo", {"terms": [{"rule": "contains"}]}, "terms.0", "needs a pattern"),
        ("ppo", {"terms": [{"rule": "contains", "pattern": "("}]}, "terms.0", "not a regular expression"),
        ("ppo", {"terms": [{"rule": "length_penalty"}]}, "terms.0", "needs a limit"),
        ("ppo", {"terms": [{"rule": "ends_properly", "limit": 3}]}, "terms.0", "takes no limit"),
        ("ppo", {"terms": [{"rule": "kindness"}]}, "terms.0.rule", "ends_properly"),
        ("ppo", {"pretraining": {"file": "/etc/passwd"}}, "pretraining.file", "relative"),
        ("ppo", {"safety_threshold": 1.5}, "safety_threshold", "less than 1"),
        ("sample", {"models": {}}, "models", "at least 1"),
        ("sample", {"models": {"a b": "x"}}, "models.a b", "match"),
        ("sample", {"temperature": -1}, "temperature", "greater than or equal to 0"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_named(
    recipe: str, change: dict, field: str, words: str
) -> None:
    found = problems({**SMALLEST[recipe], **change})
    assert field in found, found
    assert words in found[field]


def test_what_the_first_releases_called_lora_is_read() -> None:
    for lora, train in ((None, {"kind": "all"}), ({"r": 4}, {"kind": "lora", "r": 4})):
        assert parse_spec({**SMALLEST["dpo"], "lora": lora}) == parse_spec(
            {**SMALLEST["dpo"], "train": train}
        )
    assert "lora" in problems({**SMALLEST["dpo"], "lora": None, "train": {"kind": "all"}})


def test_every_bad_field_is_named_at_once() -> None:
    assert set(problems({**SMALLEST["dpo"], "beta": -1, "epochs": 0, "nonsense": 1})) == {
        "beta",
        "epochs",
        "nonsense",
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text makes its tables
@given(
    st.sampled_from(sorted(RECIPES)),
    st.dictionaries(st.sampled_from(sorted(PpoSpec.model_fields)), json_values),
)
def test_anything_is_accepted_or_refused_in_words(recipe: str, change: dict) -> None:
    problems: list[tuple[str, str]] = []
    spec = None
    try:
        spec = parse_spec({**SMALLEST[recipe], **change, "recipe": recipe})
    except SpecError as error:
        problems = error.problems
    assert all(isinstance(path, str) and message for path, message in problems)
    assert problems if spec is None else parse_spec(spec.model_dump()) == spec


def test_a_margin_switch_of_former_days_is_understood() -> None:
    assert parse_spec(SMALLEST["reward"] | {"use_margin": False}).margins == "none"
    assert parse_spec(SMALLEST["reward"] | {"use_margin": True}).margins == "row"


@given(
    beta=st.floats(min_value=1e-6, max_value=100),
    learning_rate=st.floats(min_value=1e-12, max_value=1),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
    epochs=st.floats(min_value=0.01, max_value=1000),
)
def test_values_within_bounds_survive_a_file(
    beta: float, learning_rate: float, seed: int, epochs: float
) -> None:
    raw = {**SMALLEST["dpo"], "beta": beta, "learning_rate": learning_rate, "seed": seed, "epochs": epochs}
    spec = parse_spec(raw)
    assert isinstance(spec, DpoSpec)
    assert DpoSpec.model_validate_json(spec.model_dump_json()) == spec
    assert (spec.beta, spec.learning_rate, spec.seed, spec.epochs) == (beta, learning_rate, seed, epochs)
