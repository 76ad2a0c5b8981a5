"""Models in and out: from a folder or a hub id, with tokenizer and chat template; safetensors only.

On the CPU everything is float32, so that a resumed run is bit-identical to an undisturbed one. On an
accelerator half precision weights stay as they are on disk.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from training.recipes.errors import RecipeError, is_disk_full
from training.recipes.heads import Heads, keep_first_score, name_heads, read_heads, seed_members
from training.recipes.rundir import Run, sync_tree
from training.recipes.spec import Lora, Spec

# For tokenizers without a chat template of their own: the transcript style of Anthropic's hh-rlhf. A turn of
# the assistant ends with the end-of-sequence token, so that a model can learn to stop.
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '\\n\\nAssistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ '\\n\\nSystem: ' + message['content'] }}"
    "{% else %}{{ '\\n\\nHuman: ' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def choose_device(spec: Spec) -> torch.device:
    return torch.device("cuda" if spec.device == "auto" and torch.cuda.is_available() else "cpu")


def locate_model(run: Run, name: str) -> dict[str, Any]:
    """Arguments for from_pretrained: a folder (of the run, or absolute) or a hub id."""
    local = run.directory / name  # an absolute name stays absolute
    if local.is_dir():
        return {"pretrained_model_name_or_path": str(local), "local_files_only": True}
    if HUB_ID.fullmatch(name):
        return {"pretrained_model_name_or_path": name, "local_files_only": False}
    raise RecipeError("bad_model", f"{name}: there is no such folder, and it is not a hub id (owner/name)")


def load_tokenizer(run: Run, name: str) -> Any:
    """The tokenizer, with a padding token and a chat template (PLAIN_TEMPLATE where it has none)."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(**locate_model(run, name), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise bad_model(name, error) from error
    if tokenizer.eos_token is None:
        raise RecipeError("bad_model", f"{name}: its tokenizer has no end-of-sequence token")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def load_policy(run: Run, name: str, tokenizer: Any) -> Any:
    """A causal language model on the run's device."""
    model, _ = load_model(AutoModelForCausalLM, run, name)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise RecipeError("bad_model", f"{name}: its tokenizer has more tokens than the model has embeddings")
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def load_scorer(run: Run, name: str, tokenizer: Any) -> Any:
    """A reward model with one score: its first, the mean of the members where it has several."""
    model = load_heads(run, name, tokenizer)
    keep_first_score(model, read_heads(model.config))
    return model


def load_heads(run: Run, name: str, tokenizer: Any, *, fresh: Heads | None = None) -> Any:
    """A sequence classifier with every score it has; `fresh` allows these as new heads on a language
    model.
    """
    heads = fresh or read_heads(load_config(run, name))
    model, missing = load_model(AutoModelForSequenceClassification, run, name, num_labels=heads.outputs)
    if missing and not fresh:
        raise RecipeError("bad_model", f"{name}: is not a reward model: it has no weights for {missing[0]}")
    if not hasattr(model, "score"):
        raise RecipeError("bad_model", f"{name}: its architecture has no score head over causal states")
    model.config.pad_token_id = tokenizer.pad_token_id
    name_heads(model, heads)
    if missing and heads.members > 1:
        seed_members(model, heads, run.spec.seed)
    return model


def load_config(run: Run, name: str) -> Any:
    try:
        return AutoConfig.from_pretrained(**locate_model(run, name), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise bad_model(name, error) from error


def load_model(auto: Any, run: Run, name: str, **extra: Any) -> tuple[Any, list[str]]:
    """(model on the run's device, names of the weights that the files do not have)."""
    device = choose_device(run.spec)
    where = locate_model(run, name) | {"trust_remote_code": False}
    try:
        dtype = load_dtype(AutoConfig.from_pretrained(**where).dtype, device)
        model, info = auto.from_pretrained(
            **where, **extra, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise bad_model(name, error) from error
    return model.to(device), sorted(info["missing_keys"])


def load_dtype(stored: torch.dtype | None, device: torch.device) -> torch.dtype:
    if device.type != "cpu" and stored in (torch.bfloat16, torch.float16):
        return stored
    return torch.float32


def bad_model(name: str, error: Exception) -> Exception:
    """The error for a model that does not load; a full disk while fetching stays a full disk."""
    if is_disk_full(error) or isinstance(error, torch.OutOfMemoryError):
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return RecipeError("bad_model", f"{name}: cannot be loaded: {reason[:500]}")


def context_length(model: Any, max_length: int) -> int:
    """max_length, or less where the model can hold less."""
    return min(max_length, getattr(model.config, "max_position_embeddings", None) or max_length)


def lora_config(lora: Lora, task: str) -> LoraConfig:
    """`task` is CAUSAL_LM or SEQ_CLS; the latter also trains and saves the score head."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type=task,
    )


def count_parameters(model: Any) -> dict[str, int]:
    parameters = list(model.parameters())
    return {
        "total": sum(parameter.numel() for parameter in parameters),
        "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }


def save_output(run: Run, model: Any, tokenizer: Any) -> str:
    """Save the model whole (an adapter merged, and also by itself in adapter/). Returns the output's name.

    The folder is written beside its place and renamed, so that it is never half there.
    """
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise RecipeError("nan_loss", "The model's weights are not finite: try a lower learning_rate.")
    temporary = run.output.with_name(run.output.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if isinstance(model, PeftModel):
        # The name as the specification writes it: a folder of this machine has no meaning on another.
        config = model.peft_config["default"]
        config.base_model_name_or_path = getattr(run.spec, "model", None)
        config.target_modules = sorted(config.target_modules)  # a set is written in another order each time
        model.save_pretrained(temporary / "adapter", save_embedding_layers=False)
        (temporary / "adapter" / "README.md").unlink(missing_ok=True)
        model = model.merge_and_unload()
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    sync_tree(temporary)
    shutil.rmtree(run.output, ignore_errors=True)
    temporary.rename(run.output)
    return Path(run.spec.output).as_posix()
