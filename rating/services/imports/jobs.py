"""Imports as rows: uploaded, put into the queue, claimed by a worker, carried out, ended.

A claim is a lease with an attempt that grows; every later change names the attempt, so that a worker that
was thought dead changes nothing when it wakes. The place that was reached is stored in the transaction of the
rows that lead there: the next attempt goes on from it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from rating.models import Import, Project, User
from rating.services.audit import record_event
from rating.services.imports.formats.columns import Columns
from rating.services.imports.importing import Position, import_file
from rating.services.imports.reports import ImportFailed, ImportReport

LEASE = timedelta(seconds=30)
KEPT = timedelta(days=7)
MAX_ATTEMPTS = 5
# The row says how far the import is this often.
TOLD_SECONDS = 1.0
# What a packed upload may unpack to, as a multiple of what may be uploaded.
UNPACKED_FACTOR = 8
State = Import.State
# Their file waits for somebody's word.
LEFT = [State.UPLOADED, State.REFUSED, State.FAILED]


class Stopped(Exception):
    """The worker is to stop, or the import was cancelled, or is another worker's by now."""


def receive_upload(project: Project, upload: UploadedFile, user: User) -> Import:
    """Keep an uploaded file, to be looked at before it is imported. Raises OSError when there is no room."""
    made = Import(project=project, name=(upload.name or "")[:200], size=upload.size or 0, created_by=user)
    try:
        made.directory.mkdir(parents=True)
        if isinstance(upload, TemporaryUploadedFile):
            shutil.move(upload.temporary_file_path(), made.path)
        else:
            with made.path.open("wb") as file:
                for piece in upload.chunks():
                    file.write(piece)
    except OSError:
        shutil.rmtree(made.directory, ignore_errors=True)
        raise
    made.save()
    return made


@transaction.atomic
def queue_import(
    row: Import, *, format_name: str, columns: Columns | None, keep_good: bool, dry_run: bool
) -> bool:
    """Put an import into the queue; False when it is there already, or over.

    A refused file may be tried again, for example with its good rows alone.
    """
    ready = Import.objects.filter(pk=row.pk, state__in=LEFT)
    changed = ready.update(
        state=State.QUEUED,
        phase=Import.Phase.CHECKING,
        format=format_name,
        columns=columns.to_json() if columns else {},
        keep_good=keep_good,
        dry_run=dry_run,
        queued_at=timezone.now(),
        ended_at=None,
        attempt=0,
        errors=[],
        cancel_requested=False,
        done=0,
        total=row.size,
    )
    if changed:
        record_event("import.queued", row.project, row.pk, name=row.name, dry_run=dry_run)
    return changed == 1


@transaction.atomic
def cancel_import(row: Import) -> None:
    """Stop an import: at once when nobody works on it, else when its worker next looks."""
    waiting = Import.objects.filter(pk=row.pk, state__in=[*LEFT, State.QUEUED])
    if waiting.update(state=State.CANCELLED, ended_at=timezone.now()):
        record_event("import.cancelled", row.project, row.pk, name=row.name)
        remove_upload(row)
    elif Import.objects.filter(pk=row.pk, state=State.RUNNING).update(cancel_requested=True):
        record_event("import.cancelled", row.project, row.pk, name=row.name)


def claim_import(worker: str) -> Import | None:
    """Take the oldest import that waits, or that its worker has left; None when there is none."""
    now = timezone.now()
    left = Q(state=State.RUNNING, lease_until__lte=now)
    # Looking without a transaction spares the raters its lock.
    if not Import.objects.filter(Q(state=State.QUEUED) | left).exists():
        return None
    with transaction.atomic():
        found = Import.objects.filter(Q(state=State.QUEUED) | left).order_by("pk")
        row = found.select_for_update(skip_locked=True, of=("self",)).first()
        if row is None:
            return None
        row.attempt += 1
        values: dict[str, Any] = {
            "state": State.RUNNING,
            "attempt": row.attempt,
            "claimed_by": worker[:200],
            "lease_until": now + LEASE,
            "phase": Import.Phase.CHECKING,
            "phase_at": now,
            "done": 0,
            "total": row.size,
        }
        Import.objects.filter(pk=row.pk).update(**values)
    return Import.objects.select_related("project").get(pk=row.pk)


def run_import(row: Import, stopping: Callable[[], bool] = lambda: False) -> None:
    """Carry out a claimed import, and end it. Never raises for what is wrong with the file."""
    job = Job(row, stopping)
    try:
        if row.attempt > MAX_ATTEMPTS:
            words = _("It broke off %(count)s times in a row, and is not tried again.")
            job.end(State.FAILED, errors=[words % {"count": MAX_ATTEMPTS}])
            return
        report = job.work()
    except Stopped:
        job.let_go()
    except ImportFailed as failed:
        job.end(State.REFUSED, errors=[str(error) for error in failed.errors], more=failed.more)
    except (OSError, ValueError) as error:
        job.end(State.FAILED, errors=[str(error)])
    else:
        job.end(State.SUCCEEDED, report=report)


class Job:
    """A claimed import at work; every change names its attempt."""

    def __init__(self, row: Import, stopping: Callable[[], bool]) -> None:
        self.row = row
        self.stopping = stopping
        self.told_at = time.monotonic()

    def mine(self) -> Any:
        """The row, while this attempt holds it."""
        return Import.objects.filter(pk=self.row.pk, state=State.RUNNING, attempt=self.row.attempt)

    def work(self) -> ImportReport:
        """Import the file. Raises ImportFailed, Stopped, OSError."""
        from django.conf import settings

        row = self.row
        position = Position(**row.position) if row.position else Position()
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(row.path.open("rb"))
            rejects = opened.enter_context(row.refused_path.open("wb")) if row.keep_good else None
            return import_file(
                row.project,
                file,
                format=row.format,
                columns=Columns.from_json(row.columns) if row.columns else None,
                source=row.name,
                dry_run=row.dry_run,
                max_bytes=settings.MAX_UPLOAD_BYTES * UNPACKED_FACTOR,
                rejects=rejects,
                progress=self.checked,
                position=position,
                keep=self.keep,
            )

    def checked(self, position: int) -> None:
        """Say how many bytes are checked, now and then, and look whether to stop."""
        if self.stopping():
            raise Stopped
        if time.monotonic() - self.told_at < TOLD_SECONDS:
            return
        self.told_at = time.monotonic()
        waiting = self.mine().filter(cancel_requested=False)
        if not waiting.update(done=position, lease_until=timezone.now() + LEASE):
            raise Stopped

    def keep(self, position: Position, total: int) -> None:
        """Store the place that is reached, in the transaction of the rows that lead there."""
        now = timezone.now()
        values = {"done": position.rows, "total": total, "lease_until": now + LEASE}
        if not self.row.dry_run:
            values["position"] = asdict(position)
        if self.row.phase != Import.Phase.STORING:
            self.row.phase = Import.Phase.STORING
            values |= {"phase": Import.Phase.STORING, "phase_at": now}
        if self.stopping() or not self.mine().filter(cancel_requested=False).update(**values):
            raise Stopped

    def let_go(self) -> None:
        """Put the import back into the queue, or end it when a cancel was asked for."""
        if self.mine().filter(cancel_requested=True).exists():
            self.end(State.CANCELLED)
        else:
            self.mine().update(state=State.QUEUED, lease_until=None, attempt=F("attempt") - 1)

    def end(
        self,
        state: str,
        *,
        report: ImportReport | None = None,
        errors: list[str] | None = None,
        more: bool = False,
    ) -> None:
        """Say what became of it. The file goes when it is in; a refused one stays to be tried otherwise."""
        if more:
            errors = [*(errors or []), _("There may be more: reading stopped there.")]
        values: dict[str, Any] = {"state": state, "errors": errors or [], "ended_at": timezone.now()}
        if report is not None:
            values |= {"report": report.to_json(), "format": report.format}
        again = report is not None and report.dry_run
        if again:
            values["state"] = State.UPLOADED
        ended = self.mine().update(**values, lease_until=None)
        if ended and state in (State.SUCCEEDED, State.CANCELLED) and not again:
            remove_upload(self.row)


def remove_upload(row: Import) -> None:
    """Remove the uploaded file; what was refused of it stays."""
    row.path.unlink(missing_ok=True)


def sweep_uploads() -> int:
    """Remove files that nobody gave a word on for a week; returns how many."""
    old = Import.objects.filter(state__in=LEFT, created_at__lt=timezone.now() - KEPT)
    count = 0
    for row in old:
        cancel_import(row)
        count += 1
    return count
