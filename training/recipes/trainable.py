"""What is trained: everything, the last blocks, the head, or an adapter (PEFT's) over frozen weights.

Every recipe calls `prepare_trainable` on the model it loaded, before its optimiser exists. The adapters'
papers: LoRA 2106.09685, rsLoRA 2312.03732, DoRA 2402.09353, AdaLoRA 2303.10512, QLoRA 2305.14314, prompt
tuning 2104.08691, prefix tuning 2101.00190.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    load_peft_weights,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from torch import nn

from training.recipes.errors import RecipeError
from training.recipes.models import lora_config
from training.recipes.spec import (
    Everything,
    Head,
    LastLayers,
    LearningSpec,
    Lora,
    PrefixTuning,
    PromptTuning,
    Qlora,
)

ALLOCATOR_FILE = "adalora.safetensors"
MIN_ADALORA_STEPS = 10
ORTHOGONALITY = 0.1  # gamma of AdaLoRA's eq. 7; 0.1 to 0.5 in its app. D


def prepare_trainable(model: Any, spec: LearningSpec, tokenizer: Any, task: str) -> PeftConfig | None:
    """Freeze what is not trained; returns the configuration of a new adapter, which a TRL trainer puts on.

    `task` is CAUSAL_LM or SEQ_CLS; the latter also trains and saves the score head. None: there is no
    adapter, or the model came with the one that is trained on.
    """
    if isinstance(model, PeftModel):
        return None
    match spec.train:
        case Everything():
            return None
        case LastLayers(layers=count):
            train_last_layers(model, count)
            return None
        case Head():
            train_head(model)
            return None
        case Lora(targets=targets) | Qlora(targets=targets):
            check_targets(model, targets)
            if isinstance(spec.train, Lora) and spec.train.variant == "adalora":
                return adalora_config(spec.train, task)
            return lora_config(spec.train, task)
        case PromptTuning(tokens=tokens, start=start):
            return prompt_config(model, tokenizer, tokens, start, task)
        case PrefixTuning(tokens=tokens):
            return PrefixTuningConfig(num_virtual_tokens=tokens, task_type=task)


def copy_reference(model: Any, spec: LearningSpec) -> Any:
    """A copy of the start as the reference of a training that changes the model's own weights; None for an
    adapter, which can be switched off. Call it before `prepare_trainable`.

    TRL would load a reference by the model's path: that is the base, where an adapter was merged into it.
    """
    return copy.deepcopy(model) if spec.train.kind in ("all", "last_layers", "head") else None


def keep_real_tokens(model: Any) -> None:
    """Have a model with virtual tokens give logits of the text alone, which are as many as its labels."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        model.register_forward_hook(cut_virtual_tokens, with_kwargs=True)


def cut_virtual_tokens(model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    ids = args[0] if args else kwargs["input_ids"]
    output.logits = output.logits[:, -ids.shape[1] :]
    return output


def check_targets(model: Any, targets: str | list[str]) -> None:
    """Refuse names that no layer of the model has."""
    layers = [name for name, module in model.named_modules() if not list(module.children())]
    unknown = [
        target
        for target in (targets if isinstance(targets, list) else [])
        if not any(name == target or name.endswith(f".{target}") for name in layers)
    ]
    if unknown:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in layers if name.endswith("proj")}))
        message = f"train.targets: the model has no layer {', '.join(unknown)}; it has {known or layers[0]}"
        raise RecipeError("bad_spec", message)


def train_last_layers(model: Any, count: int) -> None:
    """The last `count` blocks, and the score head of a classifier. Norms and embeddings stay."""
    blocks = find_blocks(model)
    if count > len(blocks):
        raise RecipeError(
            "bad_spec",
            f"train.layers: the model has {len(blocks)} blocks; ask for at most so many (it is {count})",
        )
    model.requires_grad_(False)
    for block in blocks[len(blocks) - count :]:
        block.requires_grad_(True)
    if hasattr(model, "score"):
        model.score.requires_grad_(True)


def find_blocks(model: Any) -> nn.ModuleList:
    """The transformer's blocks: the list of modules that is as long as the configuration says."""
    wanted = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise RecipeError("bad_model", "the model's blocks were not found: train.kind last_layers needs them")


def train_head(model: Any) -> None:
    """The score head, or the output matrix, which is parted from the embeddings where both are one."""
    model.requires_grad_(False)
    if hasattr(model, "score"):
        model.score.requires_grad_(True)
        return
    head = model.get_output_embeddings()
    if head is None:
        raise RecipeError("bad_model", "the model has no output layer: train.kind head needs one")
    if head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    head.requires_grad_(True)


def prompt_config(model: Any, tokenizer: Any, tokens: int, start: str, task: str) -> PromptTuningConfig:
    """Virtual tokens that start at random, or from the embeddings of a text, repeated or cut to fit."""
    config = PromptTuningConfig(num_virtual_tokens=tokens, task_type=task)
    ids = tokenizer.encode(start, add_special_tokens=False) if start else []
    if ids:
        config.prompt_tuning_init = "TEXT"
        config.prompt_tuning_init_text = start
        config.tokenizer_name_or_path = tokenizer.name_or_path
    return config


def adalora_config(lora: Lora, task: str) -> AdaLoraConfig:
    """Begins with 1.5 r, as in the paper's sec. 4.1; RankBudget sets the steps once their number is known."""
    return AdaLoraConfig(
        init_r=max(round(1.5 * lora.r), lora.r + 1),
        target_r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type=task,
        total_step=1_000_000,
        orth_reg_weight=ORTHOGONALITY,
    )


def reload_virtual_tokens(model: PeftModel) -> None:
    """Let a trainer resume virtual tokens: PEFT's own `load_adapter` refuses to load them for training."""

    def load_adapter(folder: str, adapter_name: str, **_: Any) -> None:
        set_peft_model_state_dict(model, load_peft_weights(folder, device=str(model.device)), adapter_name)

    model.load_adapter = load_adapter


class RankBudget:
    """AdaLoRA's ranks over a training: equal for a tenth of it, then cut to r, fixed in the last third.

    PEFT's allocator does the work. The pattern that it ends with is kept here, not in PEFT's configuration,
    and the allocator's averages go into each checkpoint: PEFT would cut the saved matrices to the pattern and
    lose the averages, and a resumed run would not go on from where it was. A rank that was cut is saved as
    zeros.
    """

    def __init__(self, model: PeftModel, steps: int) -> None:
        if steps < MIN_ADALORA_STEPS:
            message = (
                f"train.variant: adalora deals out ranks over {MIN_ADALORA_STEPS} steps or more, not {steps}"
            )
            raise RecipeError("bad_spec", message)
        self.model = model
        self.tuner = model.base_model
        self.allocator = self.tuner.rankallocator
        self.pattern: dict[str, list[bool]] | None = None
        config = model.peft_config["default"]
        config.total_step, config.tinit, config.tfinal = steps, steps // 10, steps // 3
        config.deltaT = max(1, steps // 100)
        self.config = config

    def after_step(self, step: int) -> None:
        """Deal out the ranks anew; `step` counts from 1. The gradients of the step are still there."""
        last = self.config.total_step - self.config.tfinal
        if step < last:
            self.allocator.update_and_allocate(self.tuner.model, step)
        elif step == last:
            _, self.pattern = self.allocator.update_and_allocate(self.tuner.model, step, force_mask=True)
            self.allocator.reset_ipt()
        elif self.pattern is not None:
            self.allocator.mask_using_rank_pattern(self.tuner.model, self.pattern)

    def save(self, folder: Path) -> None:
        """The averages, and the pattern where it is fixed, into a checkpoint."""
        tensors = {
            f"{part}:{name}": value.detach().contiguous()
            for part in ("ipt", "exp_avg_ipt", "exp_avg_unc")
            for name, value in getattr(self.allocator, part).items()
        }
        tensors |= {
            f"pattern:{name}": torch.tensor(kept).view(-1) for name, kept in (self.pattern or {}).items()
        }
        save_file(tensors or {"none": torch.zeros(1)}, folder / ALLOCATOR_FILE)

    def load(self, folder: Path) -> None:
        """Bring back what `save` wrote."""
        for key, value in load_file(folder / ALLOCATOR_FILE).items():
            part, _, name = key.partition(":")
            if part == "pattern":
                self.pattern = (self.pattern or {}) | {name: value.tolist()}
            elif name:
                getattr(self.allocator, part)[name] = value.to(self.model.device)


def budget_of(model: Any, steps: int) -> RankBudget | None:
    """The budget of an AdaLoRA model; None for any other."""
    is_adalora = isinstance(model, PeftModel) and isinstance(model.peft_config["default"], AdaLoraConfig)
    return RankBudget(model, steps) if is_adalora else None


def orthogonality(model: PeftModel) -> torch.Tensor:
    """Mean over the matrices P and Q of ||P'P - I||, times gamma (AdaLoRA, eq. 4 and 7): a scalar."""
    norms = []
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            square = parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
            identity = torch.eye(len(square), device=square.device, dtype=square.dtype)
            norms.append(torch.linalg.norm(square - identity))
    return model.peft_config["default"].orth_reg_weight * torch.stack(norms).mean()


def check_trained(model: Any, spec: LearningSpec) -> None:
    """A recipe that forgot `prepare_trainable` would train something else than it was asked to: refuse."""
    is_adapter = isinstance(model, PeftModel)
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    wanted = spec.train.kind not in ("all", "last_layers", "head"), spec.train.kind != "all"
    if (is_adapter, frozen) != wanted:
        raise RecipeError("bad_spec", f"train.kind: this recipe does not train {spec.train.kind}")
