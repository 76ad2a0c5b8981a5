"""Addresses that are told when something has happened, and what they were told."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from rating.models.projects import Project


class Webhook(models.Model):
    """Where a project's events are sent. The secret signs them: it is needed in full, so it is stored."""

    class Event(models.TextChoices):
        """What is told."""

        SNAPSHOT_FROZEN = "snapshot.frozen", _("A snapshot was frozen")
        RUN_ENDED = "run.ended", _("A run ended")
        VERSION_PROMOTED = "version.promoted", _("A version was promoted")
        TEST = "test", _("A test")

    project = models.ForeignKey(Project, models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=500)
    secret = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event for one address: waiting until it is delivered or given up."""

    class State(models.TextChoices):
        """What became of it."""

        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        GIVEN_UP = "given_up", _("Given up")

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    event = models.CharField(max_length=30, choices=Webhook.Event)
    body = models.TextField(editable=False, help_text="The JSON, as it is signed.")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    said = models.CharField(max_length=200, blank=True, help_text="The last answer or fault.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["due_at"], condition=Q(state="waiting"), name="webhook_delivery_due")]

    def __str__(self) -> str:
        return f"{self.event} {self.public_id}"
