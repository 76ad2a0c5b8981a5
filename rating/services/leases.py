"""Handing out items: one lease to one rater, never more leases and judgments than an item's overlap.

Locks, so that no two transactions wait for each other: every transaction of a rater first locks the rater's
row, then waits for at most one item. Giving back run-out leases waits for nothing.
"""

import secrets
import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from rating.models import Assignment, Guidelines, Item, Judgment, Project, Rater

RELEASE_BATCH = 100
COUNT_LIMIT = 200
MOST_LEASES = 2
"""The item on the rater's page, and the one that follows it."""


class LeaseLostError(Exception):
    """The lease ran out and its slot went to another rater: the answer cannot be taken."""


@dataclass(frozen=True)
class QueueCounts:
    """What a rater has before and behind them; `open` stops counting at 200, and `open_is_more` says so."""

    open: int
    open_is_more: bool
    today: int
    total: int


def take_slot(item_id: int) -> bool:
    """Take one of the item's open slots, in the caller's transaction; False when none is left."""
    return Item.objects.filter(pk=item_id, open_slots__gt=0).update(open_slots=F("open_slots") - 1) == 1


def give_slots(item_ids: Collection[int], number: int = 1) -> None:
    """Give each of the items back that many slots, in the caller's transaction."""
    Item.objects.filter(pk__in=item_ids).update(open_slots=F("open_slots") + number)


def lock_rater(rater_id: int) -> None:
    """Make the transactions of one rater wait for each other: two tabs get one lease, not two."""
    Rater.objects.select_for_update(no_key=True).values_list("pk", flat=True).get(pk=rater_id)


def open_items(project: Project, rater: Rater) -> QuerySet[Item]:
    """Items with a free slot that this rater has not had, in the order in which they are handed out.

    An item whose lease ran out on this rater may come again; one that was skipped or judged does not.
    """
    had = Assignment.objects.filter(item=OuterRef("pk"), rater=rater).exclude(state=Assignment.State.EXPIRED)
    return Item.objects.filter(~Exists(had), project=project, open_slots__gt=0).order_by(
        "-priority", "queue_key", "id"
    )


def release_run_out_leases(limit: int = RELEASE_BATCH) -> int:
    """Give back the slots of leases whose time is over, the oldest first; returns how many.

    At most `limit` at a time, of all projects. Rows that another transaction holds are left to it.
    """
    if not Assignment.objects.run_out().exists():
        return 0
    with transaction.atomic():
        leases = (
            Assignment.objects.run_out()
            .select_related("item")
            .select_for_update(of=("self", "item"), skip_locked=True, no_key=True)
            .order_by("expires_at")[:limit]
        )
        items = {lease.pk: lease.item_id for lease in leases}
        Assignment.objects.filter(pk__in=items).update(
            state=Assignment.State.EXPIRED, ended_at=timezone.now()
        )
        slots = Counter(items.values())
        for number in set(slots.values()):
            give_slots([item_id for item_id in slots if slots[item_id] == number], number)
    return len(items)


def lease_next_item(project: Project, rater: Rater) -> Assignment | None:
    """The rater's live lease if there is one, else a new lease of the next open item; None when none is open.

    The assignment comes with its item and the item's prompt. A constant number of queries.
    """
    if project.archived_at is not None:
        return None
    release_run_out_leases()
    with transaction.atomic():
        lock_rater(rater.pk)
        lease = live_leases(rater).first()
        return lease or _lease_new(project, rater)


def lease_ahead(project: Project, rater: Rater, held: Collection[uuid.UUID]) -> Assignment | None:
    """The item that comes after those which the rater's page holds already; None when none is open.

    A page shows one item and keeps the next at hand, so a rater has at most two leases: a third is never
    made. The time of those in the page starts anew, since the rater is at work on them.
    """
    if project.archived_at is not None:
        return None
    release_run_out_leases()
    with transaction.atomic():
        lock_rater(rater.pk)
        until = timezone.now() + timedelta(seconds=project.lease_seconds)
        mine = Assignment.objects.filter(rater=rater, state=Assignment.State.LEASED)
        mine.filter(public_id__in=held).update(expires_at=until)
        live = list(live_leases(rater)[: MOST_LEASES + 1])
        spare = next((lease for lease in live if lease.public_id not in held), None)
        if spare is not None or len(live) >= MOST_LEASES:
            return spare
        return _lease_new(project, rater)


def release_ahead(rater: Rater) -> int:
    """Give back what the rater was handed ahead and has not seen: every live lease but the first.

    Returns how many. The rater who left may be handed them again.
    """
    with transaction.atomic():
        lock_rater(rater.pk)
        live = live_leases(rater).select_for_update(of=("self",), no_key=True, skip_locked=True)
        ahead = {lease.pk: lease.item_id for lease in live[1:]}
        Assignment.objects.filter(pk__in=ahead).update(
            state=Assignment.State.EXPIRED, ended_at=timezone.now()
        )
        give_slots(ahead.values())
    return len(ahead)


def live_leases(rater: Rater) -> QuerySet[Assignment]:
    """The rater's live leases with all that a page shows of them; the first is the one to be worked on."""
    live = Assignment.objects.live().filter(rater=rater).select_related("item__prompt", "guidelines")
    return live.order_by("leased_at", "pk")


def _lease_new(project: Project, rater: Rater) -> Assignment | None:
    item = _lock_next_item(project, rater)
    return None if item is None else _lease(project, item, rater)


def _lock_next_item(project: Project, rater: Rater) -> Item | None:
    """The next open item, locked. Items that others hold are passed over; if only those are left, wait."""
    items = open_items(project, rater).select_related("prompt")
    free = items.select_for_update(of=("self",), skip_locked=True, no_key=True)[:1]
    waiting = items.select_for_update(of=("self",), no_key=True)[:1]
    return next(iter(free), None) or next(iter(waiting), None)


def _lease(project: Project, item: Item, rater: Rater) -> Assignment:
    """Lease the locked item to the rater.

    The order is drawn once per rater and item: when the lease ran out and the item comes again, a forgotten
    tab may still show the first order, and an answer from there must mean what its rater saw.
    """
    if not take_slot(item.pk):
        raise LeaseLostError(f"{item} was open and locked, yet its slot is gone.")
    now = timezone.now()
    lease = Assignment.objects.filter(item=item, rater=rater).first()
    if lease is None:
        order = list(item.places.values_list("completion_id", flat=True))
        secrets.SystemRandom().shuffle(order)
        lease = Assignment(item=item, rater=rater, order_shown=order)
    lease.item = item
    lease.guidelines = Guidelines.objects.filter(project=project).order_by("-number").first()
    lease.state = Assignment.State.LEASED
    lease.leased_at, lease.ended_at = now, None
    lease.expires_at = now + timedelta(seconds=project.lease_seconds)
    lease.save()
    return lease


def queue_counts(project: Project, rater: Rater) -> QueueCounts:
    """How many items are open for the rater, and how many they judged today (server's time zone) and in all.

    Two queries, neither of which grows with the project: the first stops at 200 items, the second reads the
    rater's own judgments.
    """
    open_count = 0 if project.archived_at else open_items(project, rater)[: COUNT_LIMIT + 1].count()
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    judged = Judgment.objects.filter(rater=rater, supersedes__isnull=True).aggregate(
        today=Count("pk", filter=Q(judged_at__gte=midnight)), total=Count("pk")
    )
    return QueueCounts(
        open=min(open_count, COUNT_LIMIT),
        open_is_more=open_count > COUNT_LIMIT,
        today=judged["today"],
        total=judged["total"],
    )
