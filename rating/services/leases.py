"""Handing out items: one lease to one rater, never more leases and judgments than an item's overlap.

Locks, so that no two transactions wait for each other: every transaction of a rater first locks the rater's
row, then waits for at most one item. Giving back run-out leases waits for nothing.
"""

import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import OperationalError, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from rating.models import Assignment, Guidelines, Item, ItemCompletion, Judgment, Project, Rater
from rating.prepared import Prepared, PreparedUpdate, Slot, insert_row, moment, whole

RELEASE_BATCH = 100
COUNT_LIMIT = 200
DEADLOCK, DEADLOCK_TRIES = "40P01", 5
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
    return _TAKE_SLOT(item=item_id) == 1


def give_slots(item_ids: Collection[int], number: int = 1) -> None:
    """Give each of the items back that many slots, in the caller's transaction."""
    Item.objects.filter(pk__in=item_ids).update(open_slots=F("open_slots") + number)


def lock_rater(rater_id: int) -> None:
    """Make the transactions of one rater wait for each other: two tabs get one lease, not two."""
    _LOCK_RATER(rater=rater_id)


def open_items(project: int | Slot, rater: int | Slot) -> QuerySet[Item]:
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
    if not _ANY_RUN_OUT(now=timezone.now()):
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

    def lease() -> Assignment | None:
        lock_rater(rater.pk)
        live = _LIVE(rater=rater.pk, now=timezone.now())
        return live[0] if live else _lease_new(project, rater)

    return _in_transaction(lease)


def lease_ahead(project: Project, rater: Rater, held: Collection[uuid.UUID]) -> Assignment | None:
    """The item that comes after those which the rater's page holds already; None when none is open.

    A page shows one item and keeps the next at hand, so a rater has at most two leases: a third is never
    made. The time of those in the page starts anew, since the rater is at work on them.
    """
    if project.archived_at is not None:
        return None
    release_run_out_leases()

    def lease() -> Assignment | None:
        lock_rater(rater.pk)
        _renew(project, rater, held)
        live = _LIVE(rater=rater.pk, now=timezone.now())
        spare = next((lease for lease in live if lease.public_id not in held), None)
        if spare is not None or len(live) >= MOST_LEASES:
            return spare
        return _lease_new(project, rater)

    return _in_transaction(lease)


def release_ahead(rater: Rater) -> int:
    """Give back what the rater was handed ahead and has not seen: every live lease but the first.

    Returns how many. The rater who left may be handed them again.
    """
    with transaction.atomic():
        lock_rater(rater.pk)
        live = live_leases(rater.pk).select_for_update(of=("self",), no_key=True, skip_locked=True)
        ahead = {lease.pk: lease.item_id for lease in live[1:]}
        Assignment.objects.filter(pk__in=ahead).update(
            state=Assignment.State.EXPIRED, ended_at=timezone.now()
        )
        give_slots(ahead.values())
    return len(ahead)


def live_leases(rater: int | Slot, now: datetime | Slot | None = None) -> QuerySet[Assignment]:
    """The rater's live leases with all that a page shows of them; the first is the one to be worked on."""
    live = Assignment.objects.live(now).filter(rater=rater).select_related("item__prompt", "guidelines")
    return live.order_by("leased_at", "pk")


def _in_transaction(lease: Callable[[], Assignment | None]) -> Assignment | None:
    """Carry it out, again when PostgreSQL ended it because two raters waited for each other's item.

    A row that was passed over because it had just changed stays locked, so that can happen where the last
    open items are fought over. Nothing of the lease was kept then.
    """
    for _ in range(DEADLOCK_TRIES - 1):
        try:
            with transaction.atomic():
                return lease()
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != DEADLOCK:
                raise
    with transaction.atomic():
        return lease()


def _renew(project: Project, rater: Rater, held: Collection[uuid.UUID]) -> None:
    """The time of what the rater is at work on starts anew, once a tenth of it has passed."""
    whole_time = timedelta(seconds=project.lease_seconds)
    now = timezone.now()
    mine = Assignment.objects.filter(rater=rater, state=Assignment.State.LEASED)
    if any(lease.expires_at < now + 0.9 * whole_time for lease in _LEASED(rater=rater.pk)):
        mine.filter(public_id__in=held).update(expires_at=now + whole_time)


def _lease_new(project: Project, rater: Rater) -> Assignment | None:
    item = _lock_next_item(project, rater)
    return None if item is None else _lease(project, item, rater)


def _lock_next_item(project: Project, rater: Rater) -> Item | None:
    """The next open item, locked. Items that others hold are passed over; if only those are left, wait."""
    wanted = {"project": project.pk, "rater": rater.pk}
    return _FREE_ITEM.first(**wanted) or _OPEN_ITEM.first(**wanted)


def _lease(project: Project, item: Item, rater: Rater) -> Assignment:
    """Lease the locked item to the rater.

    The order is drawn once per rater and item: when the lease ran out and the item comes again, a forgotten
    tab may still show the first order, and an answer from there must mean what its rater saw.
    """
    if not take_slot(item.pk):
        raise LeaseLostError(f"{item} was open and locked, yet its slot is gone.")
    now = timezone.now()
    lease = _EARLIER.first(item=item.pk, rater=rater.pk)
    if lease is None:
        order = canonical_order(item.pk)
        secrets.SystemRandom().shuffle(order)
        lease = Assignment(item=item, rater=rater, order_shown=order)
    lease.item = item
    lease.guidelines = _NEWEST_GUIDELINES.first(project=project.pk)
    lease.state = Assignment.State.LEASED
    lease.leased_at, lease.ended_at = now, None
    lease.expires_at = now + timedelta(seconds=project.lease_seconds)
    if lease.pk is None:
        insert_row(lease)
    else:
        lease.save()
    return lease


def canonical_order(item_id: int) -> list[int]:
    """The item's completion ids in the order of their positions."""
    return [completion for (completion,) in _ORDER(item=item_id)]


def queue_counts(project: Project, rater: Rater) -> QueueCounts:
    """How many items are open for the rater, and how many they judged today (server's time zone) and in all.

    Two queries, neither of which grows with the project: the first stops at 200 items, the second reads the
    rater's own judgments.
    """
    open_count = 0 if project.archived_at else len(_OPEN_COUNTED(project=project.pk, rater=rater.pk))
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today, total = _JUDGED.first(rater=rater.pk, midnight=midnight) or (0, 0)
    return QueueCounts(min(open_count, COUNT_LIMIT), open_count > COUNT_LIMIT, today, total)


# What every answer asks for, see rating.prepared.
_TAKE_SLOT = PreparedUpdate(
    lambda: Item.objects.filter(pk=whole("item"), open_slots__gt=0),
    lambda: {"open_slots": F("open_slots") - 1},
)
_LOCK_RATER = Prepared(
    lambda: Rater.objects.select_for_update(no_key=True).filter(pk=whole("rater")).values_list("pk")
)
_ANY_RUN_OUT = Prepared(lambda: Assignment.objects.run_out(moment("now")).values_list("pk")[:1])
_LEASED = Prepared(lambda: Assignment.objects.filter(rater=whole("rater"), state=Assignment.State.LEASED))
_LIVE = Prepared(lambda: live_leases(whole("rater"), moment("now"))[: MOST_LEASES + 1])
_FREE_ITEM = Prepared(
    lambda: (
        open_items(whole("project"), whole("rater"))
        .select_related("prompt")
        .select_for_update(of=("self",), skip_locked=True, no_key=True)[:1]
    )
)
_OPEN_ITEM = Prepared(
    lambda: (
        open_items(whole("project"), whole("rater"))
        .select_related("prompt")
        .select_for_update(of=("self",), no_key=True)[:1]
    )
)
_EARLIER = Prepared(lambda: Assignment.objects.filter(item=whole("item"), rater=whole("rater")))
_ORDER = Prepared(
    lambda: (
        ItemCompletion.objects.filter(item=whole("item")).order_by("position").values_list("completion_id")
    )
)
_NEWEST_GUIDELINES = Prepared(
    lambda: Guidelines.objects.filter(project=whole("project")).order_by("-number")[:1]
)
_OPEN_COUNTED = Prepared(
    lambda: open_items(whole("project"), whole("rater")).order_by().values_list("pk")[: COUNT_LIMIT + 1]
)
_JUDGED = Prepared(
    lambda: (
        Judgment.objects.filter(rater=whole("rater"), supersedes__isnull=True)
        .values("rater")
        .annotate(today=Count("pk", filter=Q(judged_at__gte=moment("midnight"))), total=Count("pk"))
        .values_list("today", "total")
    )
)
