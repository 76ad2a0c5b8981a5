"""The shipped base model: loads, keeps any text, renders its chat template and speaks in all four manners."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import training.demo
from training.demo.corpus import demo_prompts, is_held_out, train_prompts
from training.demo.manners import Manner, classify_manner

DEMO = Path(training.demo.__file__).parent
MODEL = DEMO / "model"


def read_rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DEMO / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def test_shipped_model_is_small_and_safetensors_only():
    files = [path for path in MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4_000_000
    assert {path.suffix for path in files} <= {".json", ".jinja", ".safetensors"}


def test_demo_files_hold_what_the_demo_needs_and_stay_out_of_the_corpus():
    responses, prompts = read_rows("responses.jsonl"), read_rows("prompts.jsonl")
    assert Counter(row["kind"] for row in responses) == {"pair": 130, "single": 30}
    assert all(len(set(row["responses"])) == 2 and all(row["responses"]) for row in responses)
    assert len(prompts) == 300
    texts = [row["prompt"][0]["content"] for row in responses + prompts]
    assert len(set(texts)) == len(texts)
    assert all(is_held_out(text) for text in texts)
    assert not set(texts) & {prompt.text for prompt in train_prompts()}


def test_seeded_responses_come_in_every_manner():
    shares = Counter(
        classify_manner(text) for row in read_rows("responses.jsonl") for text in row["responses"]
    )
    assert 0.2 < shares[Manner.WARM] / shares.total() < 0.47
    assert min(shares[manner] for manner in Manner) > 0.1 * shares.total()


@pytest.mark.recipes
@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_tokenizer_round_trips_any_text(tokenizer, text: str):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.recipes
def test_chat_template_renders_the_roles_and_the_turn_to_answer(tokenizer):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "Bye"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    expected = (
        "<|system|>Be kind.<|end|><|user|>Hello<|end|><|assistant|>Hi!<|end|><|user|>Bye<|end|><|assistant|>"
    )
    assert text == expected
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<|assistant|>") == ids[-1]


@pytest.mark.recipes
def test_chat_template_marks_what_the_assistant_said(tokenizer):
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    answered = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    assert tokenizer.decode([token for token, mask in answered if mask]) == "Hi!<|end|>"


@pytest.mark.recipes
def test_chat_template_refuses_an_unknown_role(tokenizer):
    with pytest.raises(Exception, match="roles are system, user and assistant, not tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "1"}], tokenize=False)


@pytest.mark.recipes
def test_model_has_its_own_pad_and_end_tokens(model, tokenizer):
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.config.vocab_size == len(tokenizer)
    assert 800_000 < model.num_parameters() < 1_700_000
    assert model.config.max_position_embeddings >= 512


@pytest.mark.recipes
def test_sampled_responses_are_whole_and_warm_one_time_in_three(model, tokenizer):
    from training.demo.build_model import sample_responses

    prompts = [prompt.text for prompt in demo_prompts()[-200:]]
    sampled = sample_responses(model, tokenizer, prompts, seed=5)
    shares = Counter(text and classify_manner(text) for text in sampled)
    assert 0.2 < shares[Manner.WARM] / len(sampled) < 0.47
    assert sum(shares[manner] for manner in Manner) > 0.94 * len(sampled)
