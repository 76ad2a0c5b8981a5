"""Run a specification: `python -m training.recipes.run RUN/spec.json`.

Exit status 0: succeeded or cancelled (result.json says which); 1: failed, with the error named in
result.json.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from training.recipes.errors import name_error
from training.recipes.rundir import (
    EventLog,
    Outcome,
    Run,
    finite_numbers,
    hash_file,
    hash_tree,
    package_versions,
    read_result,
    write_result,
)
from training.recipes.spec import (
    EVENTS_FILE,
    DpoSpec,
    ErrorCode,
    GrpoSpec,
    KtoSpec,
    OnlineDpoSpec,
    OrpoSpec,
    PpoSpec,
    RankingRewardSpec,
    RatingRewardSpec,
    RejectionSpec,
    RewardSpec,
    RlooSpec,
    RunStatus,
    SampleSpec,
    SftSpec,
    SimpoSpec,
    Spec,
    SpecError,
    parse_spec,
)

PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "RATCHET_DIE_WITH_PARENT"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m training.recipes.run RUN/spec.json", file=sys.stderr)
        return 1
    die_with_parent()
    path = Path(arguments[0]).resolve()
    if (read_result(path.parent) or {}).get("status") == "succeeded":
        return 0
    is_one_of_several = "LOCAL_RANK" in os.environ
    if not is_one_of_several:
        (path.parent / "result.json").unlink(missing_ok=True)
    started = time.monotonic()
    try:
        spec = read_spec(path)
    except SpecError as error:
        return refuse(path.parent, error)
    if getattr(spec, "processes", 1) > 1 and not is_one_of_several:
        from training.recipes.processes import start_processes

        return start_processes(path, spec, PARENT_VARIABLE)
    run = Run(path.parent, spec)
    signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stop", True))
    try:
        prepare_process(spec)
        cancelled_early = run.cancel_requested() and run.last_checkpoint() is None
        outcome = Outcome(0, 0, cancelled=True) if cancelled_early else train(spec, run)
        write_outcome(run, outcome, time.monotonic() - started)
    except Exception as error:
        # Whatever it was, the run page must say it: this is the only place that catches everything.
        traceback.print_exc()
        fail(run, name_error(error), time.monotonic() - started)
        return 1
    return 0


def train(spec: Spec, run: Run) -> Outcome:
    """Import the recipe's module (torch comes with it) and run it."""
    from training.recipes.preflight import check_start

    check_start(spec, run)
    match spec:
        case SftSpec():
            from training.recipes import sft

            return sft.train(spec, run)
        case RewardSpec():
            from training.recipes import reward

            return reward.train(spec, run)
        case RankingRewardSpec():
            from training.recipes import reward_ranking

            return reward_ranking.train(spec, run)
        case RatingRewardSpec():
            from training.recipes import reward_rating

            return reward_rating.train(spec, run)
        case DpoSpec():
            from training.recipes import dpo

            return dpo.train(spec, run)
        case KtoSpec():
            from training.recipes import kto

            return kto.train(spec, run)
        case OrpoSpec():
            from training.recipes import orpo

            return orpo.train(spec, run)
        case SimpoSpec():
            from training.recipes import simpo

            return simpo.train(spec, run)
        case PpoSpec():
            from training.recipes import ppo

            return ppo.train(spec, run)
        case RlooSpec():
            from training.recipes import rloo

            return rloo.train(spec, run)
        case GrpoSpec():
            from training.recipes import grpo

            return grpo.train(spec, run)
        case OnlineDpoSpec():
            from training.recipes import online_dpo

            return online_dpo.train(spec, run)
        case RejectionSpec():
            from training.recipes import rejection

            return rejection.train(spec, run)
        case SampleSpec():
            from training.recipes import sample

            return sample.train(spec, run)


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process with the one named in the environment, if that one asks for
    it.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if str(os.getppid()) != parent:
        sys.exit("the process that asked for this run is gone")


def read_spec(path: Path) -> Spec:
    try:
        return parse_spec(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError([("", f"{path.name} cannot be read as JSON: {error}")]) from error


def prepare_process(spec: Spec) -> None:
    """Threads, no telemetry, and arithmetic that gives the same bits again. Before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = os.environ["TQDM_DISABLE"] = "1"
    warnings.simplefilter("ignore", FutureWarning)  # they are for the libraries' developers
    import torch
    import transformers

    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Memory that is read before it is written would be a bug; filling it all costs a third of a small step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    transformers.set_seed(spec.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def write_outcome(run: Run, outcome: Outcome, seconds: float) -> None:
    if not run.is_main:
        return
    run.emit("cancelled" if outcome.cancelled else "finished", step=outcome.step)
    status: RunStatus = "cancelled" if outcome.cancelled else "succeeded"
    write_result(run.directory, describe(run, status, outcome, None, seconds))


def fail(run: Run, named: tuple[ErrorCode, str], seconds: float) -> None:
    """Say what went wrong in the event log and in the result, as far as the disk has room to say it."""
    code, message = named
    if not run.is_main and read_result(run.directory) is not None:
        return
    outcome = Outcome(run.last_step, run.total_steps)
    try:
        run.emit("failed", code=code, message=message)
        write_result(run.directory, describe(run, "failed", outcome, named, seconds))
    except OSError:
        traceback.print_exc()


def refuse(directory: Path, error: SpecError) -> int:
    """A specification that is not one: nothing can be run, but the result says why."""
    print(f"bad_spec: {error}", file=sys.stderr)
    EventLog(directory / EVENTS_FILE).emit("failed", code="bad_spec", message=str(error))
    named = {"code": "bad_spec", "message": str(error)}
    write_result(directory, {"status": "failed", "recipe": None, "step": 0, "total_steps": 0, "error": named})
    return 1


def describe(
    run: Run, status: RunStatus, outcome: Outcome, error: tuple[ErrorCode, str] | None, seconds: float
) -> dict[str, Any]:
    """The contents of result.json."""
    files = hash_tree(run.output) if error is None and run.output.is_dir() else {}
    return {
        "status": status,
        "recipe": run.spec.recipe,
        "step": outcome.step,
        "total_steps": outcome.total_steps,
        "model": outcome.model,
        "base": read_base(run) if error is None else None,
        "kind": outcome.kind,
        "metrics": finite_numbers(outcome.metrics),
        "merge": run.merge,
        "estimate": run.estimate,
        "peak_memory": peak_memory(),
        "files": files,
        "tokenizer_sha256": files.get("tokenizer.json"),
        "chat_template_sha256": files.get("chat_template.jinja"),
        "dataset": hash_datasets(run),
        "environment": describe_environment(run),
        "error": None if error is None else {"code": error[0], "message": error[1]},
        "seconds": round(seconds, 3),
    }


def peak_memory() -> dict[str, int]:
    """The most bytes that this process held (as Linux tells it), and the accelerator for it."""
    peak = {}
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            peak["process"] = int(line.split()[1]) * 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak["accelerator"] = torch.cuda.max_memory_allocated()
    return peak


def read_base(run: Run) -> str | None:
    """The model that the output lies over, where it is an adapter alone."""
    path = run.output / "adapter_config.json"
    return json.loads(path.read_text("utf-8"))["base_model_name_or_path"] if path.is_file() else None


def hash_datasets(run: Run) -> dict[str, str]:
    named = [name for name in run.spec.data.model_dump().values() if name]
    probes = getattr(run.spec, "probes", None)
    named += [probes.prompts] if probes else []
    match run.spec:
        case PpoSpec(pretraining=part) if part:
            named.append(part.file)
        case RejectionSpec(kept=kept) if kept:
            named.append(kept)
    return {name: hash_file(run.directory / name) for name in named if (run.directory / name).is_file()}


def describe_environment(run: Run) -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": run.spec.threads,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        **run.facts,
        "versions": package_versions(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
