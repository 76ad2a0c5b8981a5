"""The names of the files of a run directory, its events, errors and states."""

from __future__ import annotations

from typing import Literal, get_args

SPEC_FILE = "spec.json"
EVENTS_FILE = "events.jsonl"
RESULT_FILE = "result.json"
CANCEL_FILE = "cancel"
CHECKPOINTS_DIR = "checkpoints"
SAMPLES_FILE = "samples.jsonl"

EventKind = Literal[
    "started",
    "progress",
    "metrics",
    "samples",
    "checkpoint",
    "evaluation",
    "warning",
    "finished",
    "cancelled",
    "failed",
]
ErrorCode = Literal[
    "out_of_memory",
    "disk_full",
    "nan_loss",
    "stuck_loss",
    "bad_spec",
    "bad_data",
    "bad_model",
    "crash",
]
RunStatus = Literal["succeeded", "cancelled", "failed"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
ERROR_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
