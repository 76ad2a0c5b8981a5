"""One set of weights for all of PPO's models: policy, value and reward are adapters over it, the reference is
the model with its adapters switched off.

The reward model must have been trained with an adapter from the very model that is the policy: that is
checked weight by weight against its merged weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import load_file

from training.recipes.errors import RecipeError
from training.recipes.generation import forward
from training.recipes.heads import read_heads
from training.recipes.models import load_config, lora_config
from training.recipes.rundir import Run
from training.recipes.spec import PpoSpec
from training.recipes.trainable import check_targets

Parameters = dict[str, torch.nn.Parameter]
POLICY, VALUE, REWARD = "default", "value", "reward"


class SharedBackbone:
    """A causal model with three adapters; the policy's is the active one, except inside `using`."""

    def __init__(self, run: Run, spec: PpoSpec, model: Any) -> None:
        assert spec.lora is not None
        folder = run.directory / spec.reward_model
        config, weights, scores = read_adapter(spec, folder)
        # of several scores the first, which is the mean of its members
        members = read_heads(load_config(run, spec.reward_model)).members
        score = scores[:members].mean(0, keepdim=True)
        check_targets(model, spec.lora.targets)
        self.model = get_peft_model(model, lora_config(spec.lora, "CAUSAL_LM"))
        for name in (REWARD, VALUE):
            self.model.add_adapter(name, config)
            missed = set_peft_model_state_dict(self.model, weights, adapter_name=name).unexpected_keys
            if missed:
                refuse(spec, f"its adapter has no place in the model, for example {missed[0]}")
        check_same_base(spec, folder, self.model)
        self.policy_parameters = self.adapter_parameters(POLICY)
        self.value_head, self.reward_head = make_head(score, model), make_head(score, model)
        self.reward_head.requires_grad_(False)
        self.value_parameters: Parameters = self.adapter_parameters(VALUE) | {
            "value_head.weight": self.value_head.weight
        }
        self.activate(POLICY)
        self.model.eval()

    def adapter_parameters(self, name: str) -> Parameters:
        return {key: value for key, value in self.model.named_parameters() if f".{name}." in key}

    def activate(self, name: str) -> None:
        """Compute with this adapter from here on. PEFT would freeze the others, whose turn is to come."""
        self.model.set_adapter(name)
        for parameter in (*self.policy_parameters.values(), *self.value_parameters.values()):
            parameter.requires_grad_(True)
        for parameter in self.adapter_parameters(REWARD).values() if name == REWARD else ():
            parameter.requires_grad_(False)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        self.activate(name)
        try:
            yield
        finally:
            self.activate(POLICY)

    @property
    def body(self) -> Any:
        """The layers below the language model's head."""
        base = self.model.get_base_model()
        return getattr(base, base.base_model_prefix)

    def values(self) -> Any:
        """A context in which the hidden states are the value model's."""
        return self.using(VALUE)

    def drop_all_but_the_policy(self) -> Any:
        """The model as it is to be saved."""
        for name in (VALUE, REWARD):
            self.model.delete_adapter(name)
        return self.model


class SharedScorer:
    """The reward adapter as `score_conversations` knows a reward model; conversations are padded right."""

    training = False

    def __init__(self, shared: SharedBackbone) -> None:
        self.shared = shared

    @property
    def device(self) -> torch.device:
        device: torch.device = self.shared.model.device
        return device

    def eval(self) -> SharedScorer:
        return self

    def train(self, mode: bool) -> SharedScorer:
        assert not mode
        return self

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
    ) -> SimpleNamespace:
        with self.shared.using(REWARD):
            states = forward(self.shared.body, input_ids, attention_mask).last_hidden_state
        values = self.shared.reward_head(states)[..., 0]
        last = attention_mask.sum(1, keepdim=True) - 1
        return SimpleNamespace(logits=values.gather(1, last))


def make_head(weight: torch.Tensor, model: Any) -> torch.nn.Linear:
    head = torch.nn.Linear(weight.shape[1], 1, bias=False, device=model.device, dtype=model.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head


def read_adapter(spec: PpoSpec, folder: Path) -> tuple[LoraConfig, dict[str, torch.Tensor], torch.Tensor]:
    """The reward model's adapter: its configuration, its matrices, and its score heads [N, H]."""
    path = folder / "adapter"
    if not (path / "adapter_model.safetensors").is_file():
        refuse(
            spec,
            "it has no adapter/ folder: train it with train.kind lora and train.save merged, or take "
            "backbone separate",
        )
    config = LoraConfig.from_pretrained(str(path))
    if type(config) is not LoraConfig or config.use_dora:
        refuse(spec, "its adapter is of another kind: train it with train.variant plain or rslora")
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, False
    weights = load_file(path / "adapter_model.safetensors")
    heads = [name for name in weights if name.endswith("score.weight")]
    if len(heads) != 1:
        refuse(spec, "its adapter has no score head")
    score = weights[heads[0]]
    return config, {name: value for name, value in weights.items() if ".score." not in name}, score


@torch.no_grad()
def check_same_base(spec: PpoSpec, folder: Path, model: Any) -> None:
    """Refuse a reward model whose merged weights are not the policy's plus the adapter's."""
    base = model.get_base_model()
    deltas = {
        name: module.get_delta_weight(REWARD)
        for name, module in base.named_modules()
        if isinstance(module, BaseTunerLayer) and REWARD in module.lora_A
    }
    ours = {name.replace(".base_layer", ""): value for name, value in base.named_parameters()}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                if name.startswith("score."):
                    continue
                theirs = file.get_tensor(name)
                mine = ours.get(name)
                if mine is None or mine.shape != theirs.shape:
                    refuse(spec, f"it was made from another model: {name} differs in shape")
                delta = deltas.get(name.removesuffix(".weight"), 0)
                exact = mine.dtype == torch.float32
                close = {"rtol": 1e-4, "atol": 1e-5} if exact else {"rtol": 2e-2, "atol": 1e-2}
                if not torch.allclose((mine + delta).float().cpu(), theirs.float(), **close):
                    refuse(spec, f"it was trained from another model: {name} is not the policy's")


def refuse(spec: PpoSpec, why: str) -> NoReturn:
    message = f"{spec.reward_model}: cannot share the backbone of {spec.model}: {why}"
    raise RecipeError("bad_model", message)
