"""A run as a child process of the trainer, on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from training.launchers.base import LaunchError
from training.recipes.spec import SPEC_FILE, Spec
from training.services.versions import ADAPTER_CONFIG, is_hub_id

LOG_FILE = "log.txt"
# What the child is given of the trainer's environment: never the SECRET_KEY or the database.
PASSED_ON = (
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "TMPDIR",
    "USER",
    "XDG_CACHE_HOME",
)
# Where downloaded models are, and how they are fetched; only for a run that names a hub model.
PASSED_ON_FOR_HUB = (
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)


class LocalHandle:
    """A child process in a session of its own, so that Ctrl-C reaches the trainer alone."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> int | None:
        return self.process.poll()

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class LocalLauncher:
    """Starts `python -m training.recipes.run spec.json` as a child that dies with the trainer. No shell."""

    def launch(self, run_dir: Path, spec: Spec, *, lock: int) -> LocalHandle:
        # -P: what lies in the run directory is data, never a module to import.
        command = [sys.executable, "-P", "-m", "training.recipes.run", str(run_dir / SPEC_FILE)]
        try:
            with (run_dir / LOG_FILE).open("ab") as log:
                process = subprocess.Popen(  # noqa: S603  # our own command, never a shell
                    command,
                    cwd=run_dir,
                    env=child_environment(run_dir, spec),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except OSError as error:
            raise LaunchError(f"The run's process could not be started: {error}") from error
        return LocalHandle(process)


def child_environment(run_dir: Path, spec: Spec) -> dict[str, str]:
    """The child's whole environment."""
    online = names_hub_model(run_dir, spec)
    names = [*PASSED_ON, "HF_HOME", "HF_HUB_CACHE", *(PASSED_ON_FOR_HUB if online else ())]
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {
        "PYTHONPATH": str(settings.BASE_DIR),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "RATCHET_DIE_WITH_PARENT": str(os.getpid()),
        "OMP_NUM_THREADS": str(spec.threads),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RATCHET_REFERENCE_CACHE": str(settings.REFERENCE_CACHE_DIR),
    }
    if not online:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def names_hub_model(run_dir: Path, spec: Spec) -> bool:
    """Whether a model of the run, or one that an adapter of it lies over, has to be fetched from a hub."""
    fields = spec.model_dump()
    named = [fields.get(field) for field in ("model", "reward_model", "reference")]
    named += (fields.get("models") or {}).values()
    named += [base_of_adapter(run_dir / name) for name in named if name]
    return any(name and is_hub_id(name) and not (run_dir / name).is_dir() for name in named)


def base_of_adapter(directory: Path) -> str | None:
    """The model that an adapter's configuration names, unless it lies in the adapter's folder."""
    config = directory / ADAPTER_CONFIG
    if (directory / "base").is_dir() or not config.is_file():
        return None
    try:
        base = json.loads(config.read_text("utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        return None  # the recipe says what is wrong with it
    return base if isinstance(base, str) else None
