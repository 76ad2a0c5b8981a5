"""The tables of the rating app; docs/glossary.md says what each word means."""

from rating.models.audit import AuditEvent
from rating.models.imports import Import
from rating.models.items import Assignment, Item, ItemCompletion
from rating.models.judgments import Answer, Judgment, Rating, SpanMark
from rating.models.people import Membership, Rater, RaterPreferences, Role, User
from rating.models.projects import Dimension, Guidelines, Project, Question
from rating.models.texts import Completion, ModelVersion, Prompt, Split
from rating.models.tokens import ApiToken
from rating.models.webhooks import Webhook, WebhookDelivery

__all__ = [
    "Answer",
    "ApiToken",
    "Assignment",
    "AuditEvent",
    "Completion",
    "Dimension",
    "Guidelines",
    "Import",
    "Item",
    "ItemCompletion",
    "Judgment",
    "Membership",
    "ModelVersion",
    "Project",
    "Prompt",
    "Question",
    "Rater",
    "RaterPreferences",
    "Rating",
    "Role",
    "SpanMark",
    "Split",
    "User",
    "Webhook",
    "WebhookDelivery",
]
