"""Several processes on this machine: started by torchrun, each with its share of every batch.

Only the first process (rank 0) writes events, checkpoints and the result. A launcher was seen to run one
process where two were asked for, so every process counts the others before it trains.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from training.recipes.errors import RecipeError
from training.recipes.rundir import read_result, write_result

ROOT = Path(__file__).parents[2]


def start_processes(path: Path, spec: Any, parent_variable: str) -> int:
    """Run the specification at `path` in `spec.processes` processes, which die with this one.

    Returns the exit status. Where they left no result, one is written.
    """
    os.environ[parent_variable] = str(os.getpid())
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)
    # What lies in the run directory is data, never a module to import.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    place = ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=127.0.0.1"]
    ended = "without a result"
    try:
        torchrun([*place, f"--nproc-per-node={spec.processes}", "-m", "training.recipes.run", str(path)])
    except ChildFailedError as error:
        codes = sorted({failure.exitcode for failure in error.failures.values()})
        ended = f"with status {', '.join(map(str, codes))} and no result"
    except SignalException as error:
        ended = f"by {error.sigval.name}"
    result = read_result(path.parent)
    if result is None:
        message = f"A process of the run's {spec.processes} ended {ended}; its log says more."
        named = {"code": "crash", "message": message}
        result = {"status": "failed", "recipe": spec.recipe, "step": 0, "total_steps": 0, "error": named}
        write_result(path.parent, result)
    return 0 if result["status"] in ("succeeded", "cancelled") else 1


def check_world(wanted: int, found: int) -> None:
    """Refuse to train in fewer or more processes than were asked for."""
    joined = distributed.get_world_size() if distributed.is_initialized() else 1
    if not wanted == found == joined:
        raise RecipeError(
            "crash",
            f"processes: {wanted} were asked for, {min(found, joined)} came together; nothing was trained",
        )


def any_of_all(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in any process; all get the same answer, and must ask together."""
    if not distributed.is_initialized():
        return flag
    raised = torch.tensor([int(flag)], device=device)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return bool(raised.item())


def wait_for_all() -> None:
    """Return once every process is here."""
    if distributed.is_initialized():
        distributed.barrier()
