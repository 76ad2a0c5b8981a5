"""Rows of a judgment: written from a verdict, and read back into one to compare the two."""

import uuid
from datetime import datetime

from django.utils import timezone

from rating.models import Answer, Assignment, Completion, Judgment, Rating, SpanMark
from rating.prepared import insert_row
from rating.services.answers import Verdict, clamp_seconds
from rating.services.items import create_completion


def store_verdict(
    assignment: Assignment,
    verdict: Verdict,
    seconds: float | None,
    key: uuid.UUID,
    *,
    supersedes: Judgment | None = None,
) -> Judgment:
    """Write a judgment with its ratings, answers, marks and rewrite, in the caller's transaction."""
    now = timezone.now()
    judgment = Judgment(
        item_id=assignment.item_id,
        rater_id=assignment.rater_id,
        assignment=assignment,
        guidelines_id=assignment.guidelines_id,
        supersedes=supersedes,
        idempotency_key=key,
        choice=verdict.choice,
        preferred_id=verdict.preferred_id,
        strength=verdict.strength,
        ranking=verdict.ranking,
        none_good=verdict.none_good,
        asked=verdict.asked,
        safety=verdict.safety,
        intent=verdict.intent,
        rewrite=_write_rewrite(assignment, verdict.rewrite),
        flags=list(verdict.flags),
        rationale=verdict.rationale,
        seconds=clamp_seconds(seconds, _held(assignment, now)),
        judged_at=now,
    )
    insert_row(judgment)
    _store_details(judgment, verdict)
    return judgment


def verdict_of(judgment: Judgment) -> Verdict:
    """A stored judgment in the words that an answer is read into, to compare the two."""
    ratings: list[Rating] = list(judgment.ratings.all())
    answers: list[Answer] = list(judgment.answers.all())
    marks: list[SpanMark] = list(judgment.span_marks.all())
    return Verdict(
        choice=judgment.choice,
        preferred_id=judgment.preferred_id,
        strength=judgment.strength,
        ranking=judgment.ranking,
        none_good=judgment.none_good,
        asked=judgment.asked,
        safety=judgment.safety,
        ratings=frozenset((r.completion_id, r.dimension_id, r.value) for r in ratings),
        answers=frozenset(
            (a.question_id, a.completion_id, tuple(a.value) if isinstance(a.value, list) else a.value)
            for a in answers
        ),
        marks=frozenset((m.completion_id, m.start, m.end, m.verdict, m.reason) for m in marks),
        intent=judgment.intent,
        rewrite=judgment.rewrite.text if judgment.rewrite else "",
        flags=tuple(judgment.flags),
        rationale=judgment.rationale,
    )


def _store_details(judgment: Judgment, verdict: Verdict) -> None:
    Rating.objects.bulk_create(
        Rating(judgment=judgment, completion_id=completion, dimension_id=dimension, value=value)
        for completion, dimension, value in verdict.ratings
    )
    Answer.objects.bulk_create(
        Answer(judgment=judgment, question_id=question, completion_id=completion, value=value)
        for question, completion, value in verdict.answers
    )
    SpanMark.objects.bulk_create(
        SpanMark(
            judgment=judgment, completion_id=completion, start=start, end=end, verdict=said, reason=reason
        )
        for completion, start, end, said, reason in sorted(verdict.marks)
    )


def _write_rewrite(assignment: Assignment, text: str) -> Completion | None:
    """The better response as a human completion; the same text by the same rater is stored once."""
    if not text:
        return None
    prompt = assignment.item.prompt
    earlier = Completion.objects.filter(prompt=prompt, author_id=assignment.rater_id, text=text).first()
    return earlier or create_completion(prompt, text, author=assignment.rater)


def _held(assignment: Assignment, now: datetime) -> float:
    return (now - assignment.leased_at).total_seconds()
