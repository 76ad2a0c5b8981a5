"""Taking an answer back: the rater's last judgment, and the revision that supersedes it."""

import uuid
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from rating.models import Judgment, Project, Rater
from rating.services.answers import JudgmentAnswer, read_answer
from rating.services.judgments import AlreadyJudgedError, judgment_in_force, key_taken, lock_assignment
from rating.services.leases import canonical_order
from rating.services.storing import store_verdict, verdict_of


class RevisionClosedError(Exception):
    """The time in which the answer could be taken back is over; it stays as it is."""


def last_revisable(project: Project, rater: Rater) -> Judgment | None:
    """The rater's last answer in the project, if its time to be taken back is not over."""
    given = Judgment.objects.in_force().filter(rater=rater, assignment__isnull=False)
    given = given.select_related("assignment__item__prompt", "assignment__guidelines")
    last: Judgment | None = given.order_by("-pk").first()
    return None if last is None or _age(last) > project.undo_seconds else last


def revise_judgment(judgment: Judgment, answer: JudgmentAnswer, *, idempotency_key: uuid.UUID) -> Judgment:
    """Store another answer to the same item, which supersedes the judgment; what it said is kept.

    The same key again returns the revision that is stored. An answer that says what is stored already
    changes nothing and returns that. Slots are untouched: it is still one rater's one word on the item.
    Whoever opened the answer in time may take as long over it as over any item.

    Raises:
        AnswerError: the answer does not fit the item; nothing is stored.
        AlreadyJudgedError: another revision came first; it carries the judgment in force.
        RevisionClosedError: the time is over.
    """
    try:
        with transaction.atomic():
            return _revise(judgment, answer, idempotency_key)
    except IntegrityError:
        # Another rater's answer with this key came between the look at it and the writing.
        if Judgment.objects.filter(idempotency_key=idempotency_key).exists():
            raise key_taken() from None
        raise


def _revise(judgment: Judgment, answer: JudgmentAnswer, key: uuid.UUID) -> Judgment:
    assert judgment.assignment is not None, "an imported judgment has no page to be revised on"
    assignment = lock_assignment(judgment.assignment)
    sent_before: Judgment | None = Judgment.objects.filter(idempotency_key=key).first()
    if sent_before is not None:
        if sent_before.assignment_id != assignment.pk:
            raise key_taken()
        return sent_before
    project = assignment.item.project
    canonical = canonical_order(assignment.item_id)
    verdict = read_answer(project, assignment, canonical, answer)
    stored = judgment_in_force(assignment)
    if verdict_of(stored) == verdict:
        return stored
    if stored.pk != judgment.pk:
        raise AlreadyJudgedError(stored)
    if _age(judgment) > project.undo_seconds + project.lease_seconds or not project.undo_seconds:
        raise RevisionClosedError("The time to take this answer back is over; it stays as it was.")
    return store_verdict(assignment, verdict, _seconds(judgment, answer), key, supersedes=judgment)


def _seconds(judgment: Judgment, answer: JudgmentAnswer) -> float | None:
    """The time on the item in all: what was spent on the first answer, and what on the second."""
    if answer.seconds is None or judgment.seconds is None:
        return answer.seconds
    return answer.seconds + judgment.seconds


def _age(judgment: Judgment) -> float:
    return (timezone.now() - judgment.judged_at) / timedelta(seconds=1)
