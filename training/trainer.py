"""The trainer: looks at the triggers, claims queued runs one after the other, and works on them."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from rating.models import Judgment
from training.launchers.base import Handle, Launcher, LaunchError
from training.models import TrainingRun
from training.services.claims import (
    LONG_LEASE,
    claim_run,
    fail_run,
    reclaim_lost_runs,
    release_run,
    renew_lease,
)
from training.services.events import store_new_events
from training.services.model_files import PrepareError
from training.services.outcomes import read_result, settle_run
from training.services.rundirs import (
    DirectoryBusyError,
    lock_directory,
    name_os_error,
    prepare_run_directory,
    write_cancel,
)
from training.services.sentences import Sentence
from training.services.triggers import due_triggers, fire_trigger
from training.services.workers import (
    STALE_SECONDS,
    remove_heartbeat,
    sweep_heartbeats,
    worker_name,
    write_heartbeat,
)

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
# A schedule is looked at this often; judgments as soon as there are new ones.
TRIGGER_SECONDS = 30.0
# `manage.py up` waits eight seconds for the trainer, so a checkpoint must be written in less.
STOP_SECONDS = 6.0
CANCEL_SECONDS = 300.0
STOPPED = Sentence("The trainer was stopped. The run resumes when it starts again.")
DATABASE_ERRORS = (OperationalError, InterfaceError)


@dataclass
class Trainer:
    """One trainer process. `stop` is set from outside (a signal); everything else happens in `work`."""

    launcher: Launcher
    poll_seconds: float = 1.0
    worker: str = field(default_factory=worker_name)
    stop: threading.Event = field(default_factory=threading.Event)
    beaten_at: float = -HEARTBEAT_SECONDS
    triggers_at: float = -TRIGGER_SECONDS
    newest_judgment: int | None = None

    def work(self, *, once: bool = False) -> None:
        """Work until `stop` is set; with `once`, until nothing is due and nothing is in the queue."""
        logger.info("Trainer started (%s).", self.worker)
        sweep_heartbeats()
        try:
            while not self.stop.is_set():
                worked = self.turn()
                if once and not worked:
                    break
                if not worked:
                    self.stop.wait(self.poll_seconds)
        finally:
            remove_heartbeat(self.worker)
            logger.info("Trainer stopped.")

    def turn(self) -> bool:
        """Look at everything once; whether there was work. A database that is away is waited for."""
        run = None
        try:
            self.beat()
            for lost in reclaim_lost_runs(self.worker):
                logger.warning("Run %s was left by its trainer and is taken back.", lost)
            fired = self.fire_due_triggers()
            run = claim_run(self.worker)
            if run is not None:
                self.work_on(run)
        except DATABASE_ERRORS as error:
            logger.error("The database does not answer: %s", error)
            forget_connection()
            self.stop.wait(self.poll_seconds)
            return False
        return run is not None or fired

    def beat(self, run: TrainingRun | None = None) -> None:
        """Give a sign of life, every few seconds."""
        if time.monotonic() - self.beaten_at >= HEARTBEAT_SECONDS:
            self.say_alive(run, STALE_SECONDS)
            self.beaten_at = time.monotonic()

    def say_alive(self, run: TrainingRun | None, seconds: float) -> None:
        """Write the heartbeat; a full disk costs the sign, not the trainer."""
        try:
            write_heartbeat(self.worker, run_id=run.pk if run else None, good_for=seconds)
        except OSError as error:
            logger.warning("The heartbeat cannot be written: %s", error)

    def beat_for_long(self, run: TrainingRun) -> None:
        """Give a sign of life that holds while files are hashed."""
        self.say_alive(run, LONG_LEASE.total_seconds())
        self.beaten_at = -HEARTBEAT_SECONDS

    def fire_due_triggers(self) -> bool:
        """Fire what is due; triggers are looked at when there are new judgments, and every half minute."""
        newest = Judgment.objects.order_by("-pk").values_list("pk", flat=True).first()
        now = time.monotonic()
        if newest == self.newest_judgment and now - self.triggers_at < TRIGGER_SECONDS:
            return False
        self.newest_judgment, self.triggers_at = newest, now
        fired = False
        for trigger in due_triggers(timezone.now()):
            runs = fire_trigger(trigger)
            fired = fired or bool(runs)
            if runs:
                logger.info(
                    'Trigger "%s" fired: runs %s.', trigger, ", ".join(str(run.number) for run in runs)
                )
        return fired

    def work_on(self, run: TrainingRun) -> None:
        """Take a claimed run to its end, or give it back; whatever goes wrong, the trainer goes on."""
        attempt = run.attempt
        logger.info("%s: attempt %d begins.", run, attempt)
        self.beat_for_long(run)
        try:
            with lock_directory(run.directory) as lock:
                self.carry_out(run, attempt, lock)
        except DirectoryBusyError as error:
            release_run(run, attempt, str(error))
            self.stop.wait(self.poll_seconds)
        except PrepareError as error:
            fail_run(run, attempt, error.code, error.message)
        except LaunchError as error:
            fail_run(run, attempt, "crash", str(error))
        except OSError as error:
            named = name_os_error(run, error)
            fail_run(run, attempt, named.code, named.message)
        except DATABASE_ERRORS:
            raise
        except Exception as error:
            # A fault of ours must fail this run, where the operator sees it, and not stop all the others.
            logger.exception("%s: the trainer failed.", run)
            fail_run(run, attempt, "crash", f"The trainer could not work on the run: {error!r}. See its log.")
        run.refresh_from_db()
        logger.info("%s: %s. %s", run, run.get_state_display().lower(), run.error_message)

    def carry_out(self, run: TrainingRun, attempt: int, lock: int) -> None:
        """Prepare, start, watch and settle; a result that an earlier attempt left is only settled."""
        result = read_result(run)
        if result is not None and result["status"] != "cancelled":
            store_all_events(run, attempt)
            settle_run(run, attempt, None)
            return
        spec = prepare_run_directory(run)
        if self.stop.is_set():
            release_run(run, attempt, STOPPED)
            return
        handle = self.launcher.launch(run.directory, spec, lock=lock)
        try:
            kept = self.watch(run, attempt, handle)
        finally:
            handle.kill()
        if not kept:
            logger.warning("%s: attempt %d was lost to another trainer.", run, attempt)
            return
        store_all_events(run, attempt)
        self.beat_for_long(run)
        if self.stop.is_set() and not has_final_result(run):
            release_run(run, attempt, STOPPED)
        else:
            settle_run(run, attempt, handle.poll())

    def watch(self, run: TrainingRun, attempt: int, handle: Handle) -> bool:
        """Follow the process until it ends, or has to; False when the run was lost to another trainer."""
        deadline: float | None = None
        asked_to_stop = False
        while handle.poll() is None:
            self.beat(run)
            try:
                if not renew_lease(run, attempt):
                    return False
                store_new_events(run, attempt)
                if run.cancel_requested_at is None and cancel_is_requested(run):
                    logger.info("%s: cancel requested.", run)
                    write_cancel(run)
                    deadline = deadline or time.monotonic() + CANCEL_SECONDS
            except DATABASE_ERRORS as error:
                # The process goes on learning meanwhile; nothing it writes is lost.
                logger.error("%s: the database does not answer: %s", run, error)
                forget_connection()
            if self.stop.is_set() and not asked_to_stop:
                asked_to_stop = True
                handle.terminate()
                deadline = time.monotonic() + STOP_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return True
            if asked_to_stop:
                time.sleep(0.05)
            else:
                wait_for(handle, self.stop, self.poll_seconds)
        return True


def wait_for(handle: Handle, stop: threading.Event, seconds: float) -> None:
    """Wait, but not longer than the process lives or the trainer may."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and handle.poll() is None and not stop.wait(min(0.05, seconds)):
        pass


def cancel_is_requested(run: TrainingRun) -> bool:
    """Whether somebody asked for a cancel; remembered on the run."""
    requested = TrainingRun.objects.filter(pk=run.pk).values_list("cancel_requested_at", flat=True).first()
    run.cancel_requested_at = requested
    return requested is not None


def has_final_result(run: TrainingRun) -> bool:
    """Whether the recipe ended by itself, rather than because it was told to."""
    result = read_result(run)
    return result is not None and result["status"] != "cancelled"


def store_all_events(run: TrainingRun, attempt: int) -> None:
    """Read what is left of the event log."""
    while store_new_events(run, attempt):
        pass


def forget_connection() -> None:
    """Close the database connection, so that the next query opens a new one."""
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]  # the PostgreSQL backend's own
