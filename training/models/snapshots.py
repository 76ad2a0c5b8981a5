"""Frozen, hashed rows made from judgments."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models

from rating.models import Judgment, Project, User


class DatasetSnapshot(models.Model):
    """Rows made from judgments, with the query, the split and every judgment's id. Never changed.

    Its files lie in `directory`: `manifest.json` and the JSONL files that recipes read.
    """

    project = models.ForeignKey(Project, models.PROTECT, related_name="snapshots")
    number = models.PositiveIntegerField()
    content_hash = models.CharField(max_length=64, help_text="sha256 over the files' hashes.")
    query = models.JSONField(default=dict, help_text="Which judgments, and how they became rows.")
    counts = models.JSONField(default=dict, help_text="Rows per file, and what was left out and why.")
    judgments = models.ManyToManyField(Judgment, through="SnapshotJudgment", related_name="snapshots")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="snapshot_numbered_once")]

    def __str__(self) -> str:
        return f"{self.project} snapshot {self.number}"

    @property
    def directory(self) -> Path:
        """Where the snapshot's files lie."""
        return settings.SNAPSHOTS_DIR / self.project.slug / f"{self.number:05d}-{self.content_hash[:12]}"


class SnapshotJudgment(models.Model):
    """A judgment is in a snapshot."""

    snapshot = models.ForeignKey(DatasetSnapshot, models.CASCADE)
    judgment = models.ForeignKey(Judgment, models.PROTECT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["snapshot", "judgment"], name="snapshot_judgment_once")
        ]

    def __str__(self) -> str:
        return f"{self.judgment_id} in {self.snapshot_id}"
