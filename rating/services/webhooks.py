"""Webhooks: made, told of events in the transaction of the event, delivered by the import worker."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from rating.models import Project, Webhook, WebhookDelivery
from rating.services.audit import record_event
from rating.services.outbound import OutboundError, post_once

logger = logging.getLogger(__name__)
MOST = 10
BACKOFF = (10, 60, 300, 1800, 7200, 21600)
"""Seconds until the next attempt; after the last one it is given up."""
CLAIMED = timedelta(minutes=2)
State = WebhookDelivery.State


class WebhookError(ValueError):
    """An address that cannot be taken: which field, and what would be right."""

    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(f"{field}: {message}")


@transaction.atomic
def add_webhook(project: Project, url: str) -> Webhook:
    """An address that is told from now on, with a new secret.

    Raises:
        WebhookError: names the field and says what would be right.
    """
    url = url.strip()
    try:
        URLValidator(schemes=["http", "https"])(url)
    except ValidationError:
        raise WebhookError("url", _("Give an address that begins with https:// or http://.")) from None
    if len(url) > 500 or urlsplit(url).username is not None:
        raise WebhookError("url", _("Give at most 500 characters, without a name and password."))
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    if Webhook.objects.filter(project=project).count() >= MOST:
        raise WebhookError("url", _("A project has at most %(most)s; remove one first.") % {"most": MOST})
    webhook = Webhook.objects.create(project=project, url=url, secret=secrets.token_urlsafe(32))
    record_event("webhook.added", project, url)
    return webhook


@transaction.atomic
def remove_webhook(webhook: Webhook) -> None:
    """It is told no more, and what was waiting for it is dropped."""
    record_event("webhook.removed", webhook.project, webhook.url)
    webhook.delete()


def announce(project: Project, event: Webhook.Event, data: dict[str, Any]) -> None:
    """Put an event up for all of the project's addresses; call it in the transaction of the event."""
    for webhook in Webhook.objects.filter(project=project):
        put_up(webhook, project, event, data)


def put_up(webhook: Webhook, project: Project, event: Webhook.Event, data: dict[str, Any]) -> WebhookDelivery:
    """One delivery to be made."""
    delivery = WebhookDelivery(webhook=webhook, event=event)
    told = {
        "id": str(delivery.public_id),
        "event": event.value,
        "project": project.slug,
        "happened_at": timezone.now().isoformat(timespec="seconds"),
        "data": data,
    }
    delivery.body = json.dumps(told)
    delivery.save()
    return delivery


def sign(secret: str, timestamp: int, body: str) -> str:
    """HMAC-SHA256 in hexadecimal over `timestamp.body`."""
    return hmac.new(secret.encode(), f"{timestamp}.{body}".encode(), hashlib.sha256).hexdigest()


def deliver_next() -> bool:
    """Make one delivery that is due; False when there is none. No two workers make the same one."""
    now = timezone.now()
    due = WebhookDelivery.objects.filter(state=State.WAITING, due_at__lte=now)
    delivery = due.select_related("webhook").order_by("due_at").first()
    if delivery is None:
        return False
    mine = WebhookDelivery.objects.filter(pk=delivery.pk, state=State.WAITING, attempts=delivery.attempts)
    if not mine.update(attempts=F("attempts") + 1, due_at=now + CLAIMED):
        return True
    attempt = delivery.attempts + 1
    try:
        status = send(delivery)
        fine, said = 200 <= status < 300, str(status)
    except OutboundError as error:
        fine, said = False, str(error)
    row = WebhookDelivery.objects.filter(pk=delivery.pk, attempts=attempt)
    if fine:
        row.update(state=State.DELIVERED, said=said)
    elif attempt > len(BACKOFF):
        row.update(state=State.GIVEN_UP, said=said[:200])
    else:
        row.update(due_at=timezone.now() + timedelta(seconds=BACKOFF[attempt - 1]), said=said[:200])
    logger.info("Webhook delivery %s, attempt %d: %s", delivery.public_id, attempt, said)
    return True


def send(delivery: WebhookDelivery) -> int:
    """The status that was answered. Raises OutboundError."""
    timestamp = int(timezone.now().timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Ratchet",
        "Ratchet-Event": delivery.event,
        "Ratchet-Delivery": str(delivery.public_id),
        "Ratchet-Timestamp": str(timestamp),
        "Ratchet-Signature": "sha256=" + sign(delivery.webhook.secret, timestamp, delivery.body),
    }
    return post_once(delivery.webhook.url, delivery.body.encode(), headers)
