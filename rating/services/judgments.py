"""Taking what raters say: one transaction each, append-only, stored once however often it is sent."""

import uuid

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from rating.models import Assignment, Judgment
from rating.prepared import Prepared, PreparedUpdate, Slot, moment, whole
from rating.services.answers import FLAGS, AnswerError, JudgmentAnswer, read_answer
from rating.services.errors import at_most_characters
from rating.services.leases import LeaseLostError, canonical_order, give_slots, lock_rater, take_slot
from rating.services.storing import store_verdict, verdict_of
from rating.services.texts import TextError, check_text

__all__ = [
    "FLAGS",
    "AlreadyJudgedError",
    "AnswerError",
    "JudgmentAnswer",
    "LeaseLostError",
    "record_judgment",
    "record_skip",
]

MAX_SKIP_REASON = 200


class AlreadyJudgedError(Exception):
    """The rater has already answered this item, otherwise; `judgment` is what is stored, and stays."""

    def __init__(self, judgment: Judgment) -> None:
        super().__init__("This item is already answered; nothing was changed.")
        self.judgment = judgment


def record_judgment(
    assignment: Assignment, answer: JudgmentAnswer, *, idempotency_key: uuid.UUID
) -> Judgment:
    """Store what the rater said, once: the stored judgment is returned when the same answer comes again.

    The same key again, or the same content with another key (back button, second tab), changes nothing. An
    answer after the lease ran out or after a skip is taken while the item still has a free slot.

    Raises:
        AnswerError: the answer does not fit the item; nothing is stored, the lease stays.
        AlreadyJudgedError: the item was answered otherwise before; it carries the stored judgment.
        LeaseLostError: the lease ran out, and the slot went to another rater.
    """
    try:
        with transaction.atomic():
            return _record(lock_assignment(assignment), answer, idempotency_key)
    except IntegrityError:
        # Another rater's answer with this key came between the look at it and the writing.
        if Judgment.objects.filter(idempotency_key=idempotency_key).exists():
            raise key_taken() from None
        raise


def record_skip(assignment: Assignment, reason: str = "") -> None:
    """Give the item to somebody else; it does not come back to this rater. A second skip changes nothing.

    Raises:
        AnswerError: the reason is no storable text of at most 200 characters.
        AlreadyJudgedError: the item is already answered, and stays so.
    """
    try:
        check_text(reason, _("Reason"))
    except TextError as error:
        raise AnswerError("skip_reason", str(error)) from None
    if len(reason) > MAX_SKIP_REASON:
        raise AnswerError("skip_reason", at_most_characters(MAX_SKIP_REASON))
    with transaction.atomic():
        locked = lock_assignment(assignment)
        if locked.state == Assignment.State.DONE:
            raise AlreadyJudgedError(judgment_in_force(locked))
        if locked.state == Assignment.State.SKIPPED:
            return
        if locked.state == Assignment.State.LEASED:
            give_slots([locked.item_id])
        locked.state = Assignment.State.SKIPPED
        locked.skip_reason, locked.ended_at = reason.strip(), timezone.now()
        locked.save(update_fields=["state", "skip_reason", "ended_at"])


def lock_assignment(assignment: Assignment) -> Assignment:
    """The assignment as it is now, locked, with its item and project: the rater's row first, as in leases."""
    lock_rater(assignment.rater_id)
    return _LOCKED(assignment=assignment.pk)[0]


def _record(assignment: Assignment, answer: JudgmentAnswer, key: uuid.UUID) -> Judgment:
    sent_before = _SENT_BEFORE.first(key=key)
    if sent_before is not None:
        if sent_before.assignment_id != assignment.pk:
            raise key_taken()
        return sent_before
    canonical = canonical_order(assignment.item_id)
    verdict = read_answer(assignment.item.project, assignment, canonical, answer)
    if assignment.state == Assignment.State.DONE:
        stored = judgment_in_force(assignment)
        if verdict_of(stored) != verdict:
            raise AlreadyJudgedError(stored)
        return stored
    if assignment.state != Assignment.State.LEASED and not take_slot(assignment.item_id):
        raise LeaseLostError("The lease ran out, and the item went to another rater.")
    judgment = store_verdict(assignment, verdict, answer.seconds, key)
    assignment.state, assignment.ended_at = Assignment.State.DONE, judgment.judged_at
    _END(assignment=assignment.pk, now=judgment.judged_at)
    return judgment


def judgment_in_force(assignment: Assignment) -> Judgment:
    """What is stored of a finished assignment: the judgment in force."""
    judgment: Judgment = Judgment.objects.in_force().get(assignment=assignment)
    return judgment


def key_taken() -> AnswerError:
    return AnswerError("idempotency_key", _("This page was sent before for another item; reload it."))


# What every answer asks for, see rating.prepared.
_LOCKED = Prepared(
    lambda: (
        Assignment.objects.select_for_update(of=("self",), no_key=True)
        .select_related("item__project")
        .filter(pk=whole("assignment"))
    )
)
_SENT_BEFORE = Prepared(
    lambda: Judgment.objects.filter(idempotency_key=Slot("key", Judgment._meta.get_field("idempotency_key")))
)
_END = PreparedUpdate(
    lambda: Assignment.objects.filter(pk=whole("assignment")),
    lambda: {"state": Assignment.State.DONE, "ended_at": moment("now")},
)
