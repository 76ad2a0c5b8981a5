"""Models in and out: from a folder or a hub id, with tokenizer and chat template; safetensors only.

On the CPU everything is float32, so that a resumed run is bit-identical to an undisturbed one. On an
accelerator frozen weights of half precision stay as they are on disk.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from training.recipes.adapters import (
    attach_adapter,
    base_of,
    continues_adapter,
    find_adapter,
    merge_adapter,
    read_scores,
    save_adapter,
)
from training.recipes.errors import RecipeError, is_disk_full
from training.recipes.heads import Heads, keep_first_score, name_heads, read_heads, seed_members
from training.recipes.rundir import Run, sync_tree
from training.recipes.spec import BaseSpec, Lora, Qlora, Trained

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


def choose_device(spec: BaseSpec) -> torch.device:
    """The CPU, or an accelerator: of several processes each has its own."""
    if spec.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def uses_bfloat16(device: torch.device) -> bool:
    """Whether matrices are multiplied in bfloat16 while what is trained stays in float32: on newer GPUs."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def choose_attention(device: torch.device) -> str:
    """Flash attention where it is installed and can run, else torch's own fused kernels."""
    flash = uses_bfloat16(device) and importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if flash else "sdpa"


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
    folder = find_adapter(run, name)
    source = name if folder is None or (folder / "tokenizer_config.json").is_file() else base_of(folder, name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**locate_model(run, source), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise bad_model(name, error) from error
    if tokenizer.eos_token is None:
        raise RecipeError("bad_model", f"{name}: its tokenizer has no end-of-sequence token")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def load_policy(
    run: Run, name: str, tokenizer: Any, *, train: Trained | None = None, whole: bool = True
) -> Any:
    """A causal language model on the run's device.

    An adapter is merged into its base; it stays one where `train` goes on with it, or `whole` is False.
    """
    model, _ = load_model(AutoModelForCausalLM, run, name, "CAUSAL_LM", train, whole)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise RecipeError("bad_model", f"{name}: its tokenizer has more tokens than the model has embeddings")
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def load_scorer(run: Run, name: str, tokenizer: Any, *, train: Trained | None = None) -> Any:
    """A reward model with one score: its first, the mean of the members where it has several."""
    model = load_heads(run, name, tokenizer, train=train)
    keep_first_score(model, read_heads(model.config))
    return model


def load_heads(
    run: Run, name: str, tokenizer: Any, *, fresh: Heads | None = None, train: Trained | None = None
) -> Any:
    """A sequence classifier with every score it has; `fresh` allows these as new heads on a language
    model.
    """
    heads = fresh or read_heads(load_config(run, name))
    model, missing = load_model(
        AutoModelForSequenceClassification, run, name, "SEQ_CLS", train, True, num_labels=heads.outputs
    )
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
    """The model's configuration; of an adapter its base's, with the scores that the adapter tells of."""
    folder = find_adapter(run, name)
    base = name if folder is None else base_of(folder, name)
    try:
        config = AutoConfig.from_pretrained(**locate_model(run, base), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise bad_model(name, error) from error
    if folder is not None:
        config.update(read_scores(folder))
    return config


def load_model(
    auto: Any, run: Run, name: str, task: str, train: Trained | None, whole: bool, **extra: Any
) -> tuple[Any, list[str]]:
    """(model on the run's device, names of the weights that the files do not have)."""
    folder = find_adapter(run, name)
    base = name if folder is None else base_of(folder, name)
    model, missing = load_weights(auto, run, base, train, **extra)
    if folder is None:
        return model, missing
    continues = train is not None and continues_adapter(run, folder, train, task)
    adapted = attach_adapter(model, folder, name, task, trainable=continues)
    if adapted.active_peft_config.task_type == "SEQ_CLS":
        missing = []  # the head comes with the adapter
    if continues or not (whole or train):
        return adapted, missing
    return merge_adapter(run, adapted, name), missing


def load_weights(
    auto: Any, run: Run, name: str, train: Trained | None = None, **extra: Any
) -> tuple[Any, list[str]]:
    """A whole model from its files, as `load_model`; in 4 bits for QLoRA."""
    device = choose_device(run.spec)
    run.facts |= {"device": device_name(device), "attention": choose_attention(device)}
    where = locate_model(run, name) | {"trust_remote_code": False}
    if train is not None and train.kind == "qlora":
        extra |= quantization(device)
    try:
        dtype = load_dtype(AutoConfig.from_pretrained(**where).dtype, device, train)
        model, info = auto.from_pretrained(
            **where,
            **extra,
            dtype=dtype,
            attn_implementation=choose_attention(device),
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise bad_model(name, error) from error
    if "quantization_config" not in extra:
        model = model.to(device)
    return model, sorted(info["missing_keys"])


def quantization(device: torch.device) -> dict[str, Any]:
    """from_pretrained's arguments for QLoRA: NF4 with double quantisation (arXiv 2305.14314, sec. 3)."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def check_qlora(device: torch.device) -> None:
    """Refuse QLoRA where it cannot be done, and say what can."""
    if device.type != "cuda":
        raise RecipeError(
            "bad_spec", "train.kind: qlora needs a CUDA device, and there is none; use lora on this machine"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RecipeError("bad_spec", "train.kind: qlora needs bitsandbytes: pip install bitsandbytes")


def load_dtype(stored: torch.dtype | None, device: torch.device, train: Trained | None = None) -> torch.dtype:
    """Float32 on the CPU and for weights that are trained: half precision would round small steps away.

    On an accelerator frozen weights stay in half precision where their files have them so.
    """
    trains_weights = train is not None and train.kind in ("all", "last_layers", "head")
    if device.type != "cpu" and stored in (torch.bfloat16, torch.float16) and not trains_weights:
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


def lora_config(lora: Lora | Qlora, task: str) -> LoraConfig:
    """`task` is CAUSAL_LM or SEQ_CLS; the latter also trains and saves the score head."""
    variant = getattr(lora, "variant", "plain")
    return LoraConfig(
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
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
    """Save what was trained; returns the output's name.

    A whole model, with an adapter merged and also by itself in adapter/; or the adapter alone, where the
    specification says so. The folder is written beside its place and renamed, so that it is never half there.
    """
    if not all(
        torch.isfinite(parameter).all() for parameter in model.parameters() if parameter.is_floating_point()
    ):
        raise RecipeError("nan_loss", "The model's weights are not finite: try a lower learning_rate.")
    temporary = run.output.with_name(run.output.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if isinstance(model, PeftModel):
        alone = getattr(run.spec, "saves_adapter", False)
        save_adapter(run, model, temporary if alone else temporary / "adapter")
        model = None if alone else merge_adapter(run, model, "the trained adapter")
    if model is not None:
        model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    sync_tree(temporary)
    shutil.rmtree(run.output, ignore_errors=True)
    temporary.rename(run.output)
    return Path(run.spec.output).as_posix()
