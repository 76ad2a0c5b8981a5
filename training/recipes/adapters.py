"""Adapters on disk: found, put on their base, merged into it with a check, and saved alone.

An adapter's folder holds `adapter_config.json` and `adapter_model.safetensors`. Its base is the folder `base`
inside it, where there is one, else what its configuration names. PEFT reads and writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel

from training.recipes.errors import RecipeError
from training.recipes.rundir import Run
from training.recipes.spec import REWARD_RECIPES, LearningSpec, Trained

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FOLDER = "base"
SCORES_FILE = "scores.json"
PROMPT_TYPES = {"PROMPT_TUNING": "prompt", "PREFIX_TUNING": "prefix"}
LOW_RANK_TYPES = {"LORA": "lora", "ADALORA": "lora"}
PROBE_SHAPE = (2, 24)
# Of the largest logit: a merge rounds each weight once, in the precision that the weights are held in.
MERGE_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def find_adapter(run: Run, name: str) -> Path | None:
    """The folder of the adapter that `name` is; None for a whole model.

    Raises RecipeError bad_model where its weights are not safetensors.
    """
    folder = run.directory / name
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise RecipeError("bad_model", f"{name}: is an adapter without {ADAPTER_WEIGHTS}")
    return folder


def base_of(folder: Path, name: str) -> str:
    """The model that an adapter lies over, as a name for `locate_model`."""
    if (folder / BASE_FOLDER).is_dir():
        return str(folder / BASE_FOLDER)
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise RecipeError("bad_model", f"{name}: {ADAPTER_CONFIG} is not a JSON object") from error
    if not isinstance(base, str) or not base or ".." in Path(base).parts:
        raise RecipeError("bad_model", f"{name}: is an adapter that does not say which model it lies over")
    return base


def kind_of(folder: Path) -> str:
    """The kind of the adapter in the words of a specification's `train`."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    kind = str(config.get("peft_type"))
    return (LOW_RANK_TYPES | PROMPT_TYPES).get(kind, kind)


def continues_adapter(run: Run, folder: Path, train: Trained, task: str) -> bool:
    """Whether training goes on with the adapter itself; says so where the settings ask for another shape."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    same_kind = kind_of(folder) == ("lora" if train.kind == "qlora" else train.kind)
    if not same_kind or config.get("task_type") != task:
        return False
    if config.get("peft_type") == "ADALORA" or getattr(train, "variant", "plain") == "adalora":
        return False  # its ranks are dealt out already; a new one starts from the merged model
    found = (config.get("r"), config.get("lora_alpha"), config.get("num_virtual_tokens"))
    asked = tuple(getattr(train, name, None) for name in ("r", "alpha", "tokens"))
    if found != asked:
        size = " and ".join(f"{value:g}" for value in found if value is not None)
        run.emit(
            "warning", message=f"the adapter goes on in the size it has ({size}), not in the settings' one"
        )
    return True


def attach_adapter(model: Any, folder: Path, name: str, task: str, *, trainable: bool = False) -> PeftModel:
    """The adapter over its base. A policy's adapter may also be put on the classifier of a reward model."""
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if config.task_type != task:
            if config.task_type == "SEQ_CLS" or config.is_prompt_learning:
                raise RecipeError(
                    "bad_model", f"{name}: is an adapter for another purpose ({config.task_type})"
                )
            config.task_type = None
        config.inference_mode = not trainable
        waits = config.is_prompt_learning  # PEFT loads virtual tokens for use only; they are opened below
        adapted = PeftModel.from_pretrained(
            model, str(folder), config=config, is_trainable=trainable and not waits
        )
        if trainable and waits:
            adapted.prompt_encoder.requires_grad_(True)
        return adapted
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, RecipeError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecipeError(
            "bad_model", f"{name}: the adapter does not fit its base: {reason[:500]}"
        ) from error


def merge_adapter(run: Run, model: PeftModel, name: str) -> Any:
    """The whole model, after a check that it still gives the adapter's logits; `run.merge` keeps the figure.

    Raises RecipeError bad_model where it does not, or where the adapter cannot be merged.
    """
    if model.active_peft_config.is_prompt_learning:
        message = f"{name}: virtual tokens cannot be merged into a model; go on with the same train.kind"
        raise RecipeError("bad_model", message)
    training = model.training
    model.eval()
    ids = probe_ids(model)
    before = logits_of(model, ids)
    dtype = next(model.get_base_model().parameters()).dtype
    whole = model.merge_and_unload(adapter_names=[model.active_adapter])
    difference = (logits_of(whole, ids) - before).abs().max().item()
    allowed = MERGE_TOLERANCE.get(dtype, 0.1) * max(1.0, before.abs().max().item())
    run.merge = {"max_abs_difference": difference, "allowed": allowed}
    if not difference <= allowed:
        raise RecipeError(
            "bad_model",
            f"{name}: merging the adapter changes the logits by {difference:.3g}, more than {allowed:.3g}: "
            "set train.save to adapter, which keeps it apart",
        )
    whole.train(training)
    return whole.requires_grad_(True)


def probe_ids(model: Any) -> torch.Tensor:
    """The same token ids for the same vocabulary: [2, 24]."""
    size = model.get_input_embeddings().num_embeddings
    generator = torch.Generator().manual_seed(0)
    return torch.randint(size, PROBE_SHAPE, generator=generator).to(model.device)


@torch.no_grad()
def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits.float()


def swap_adapter(run: Run, model: Any, before: str, name: str) -> bool:
    """Put the adapter `name` in the place of `before` over the same base; False where that cannot be done."""
    folders = find_adapter(run, before), find_adapter(run, name)
    if None in folders or not isinstance(model, PeftModel):
        return False
    configs = [PeftConfig.from_pretrained(str(folder)) for folder in folders]
    same_base = len({base_of(folder, name) for folder in folders if folder}) == 1
    if not same_base or {str(config.peft_type.value) for config in configs} != {"LORA"}:
        return False
    old = model.active_adapter
    new = "swapped" if old == "default" else "default"
    model.load_adapter(str(folders[1]), adapter_name=new)
    model.set_adapter(new, inference_mode=True)
    model.delete_adapter(old)
    return True


def save_adapter(run: Run, model: PeftModel, folder: Path) -> None:
    """The adapter that was trained, alone, and the name of its base as the specification writes it: a folder
    of this machine has no meaning on another.
    """
    config = model.peft_config["default"]
    name = getattr(run.spec, "model", None)
    start = find_adapter(run, name) if name else None
    config.base_model_name_or_path = base_name(start, name) if start and name else name
    if getattr(config, "target_modules", None):
        # a set is written in another order each time
        config.target_modules = sorted(config.target_modules)
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)
    if getattr(model.config, "score_heads", None):
        scores = {"score_heads": model.config.score_heads, "score_members": model.config.score_members}
        (folder / SCORES_FILE).write_text(json.dumps(scores), "utf-8")


def read_scores(folder: Path) -> dict[str, Any]:
    """Which scores an adapter of a reward model gives, as its whole model's configuration has them; empty
    for the one without a name.
    """
    path = folder / SCORES_FILE
    try:
        scores = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return {name: scores[name] for name in ("score_heads", "score_members") if path.is_file()}
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError("bad_model", f"{folder.name}: {SCORES_FILE} does not name its scores") from error


def base_name(folder: Path, name: str) -> str:
    """The base of an adapter that is trained on, without the path of this machine."""
    return f"{name}/{BASE_FOLDER}" if (folder / BASE_FOLDER).is_dir() else base_of(folder, name)


def check_saving(run: Run, spec: LearningSpec) -> None:
    """Refuse to save an adapter alone whose base would be nowhere on disk."""
    folder = find_adapter(run, spec.model)
    if folder is None or not spec.saves_adapter:
        return
    task = "SEQ_CLS" if run.spec.recipe in REWARD_RECIPES else "CAUSAL_LM"
    if run.spec.recipe == "ppo" or not continues_adapter(run, folder, spec.train, task):
        raise RecipeError(
            "bad_model",
            f"{spec.model}: is an adapter that is merged before this training: what is trained lies over the "
            "merged model. Set train.save to merged, or start from a whole model",
        )
