"""The administration of every table of the rating side: superusers' eyes, and few hands.

What raters said is read-only. Lists name the few columns that tell rows apart and fetch them in one query;
rows that can be many are chosen by id or by search, never from a list of all.
"""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from rating.models import (
    Answer,
    ApiToken,
    Assignment,
    AuditEvent,
    Completion,
    Dimension,
    Guidelines,
    Import,
    Item,
    ItemCompletion,
    Judgment,
    Membership,
    ModelVersion,
    Project,
    Prompt,
    Question,
    Rater,
    RaterPreferences,
    Rating,
    SpanMark,
    User,
    Webhook,
    WebhookDelivery,
)

MAX_SEARCH = 200


class ShortSearch(admin.ModelAdmin):
    """A search of a few words: each is a condition of the query, and SQLite takes no more than a thousand."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The rows that fit the first words."""
        return super().get_search_results(request, queryset, search_term[:MAX_SEARCH])


class RoomAdmin(ShortSearch):
    """Short pages, counted once: a second count of a million rows says nothing."""

    list_per_page = 50
    show_full_result_count = False


@admin.register(User)
class AccountAdmin(ShortSearch, UserAdmin):
    """Accounts; what they may do is said per project."""


class ReadOnlyAdmin(RoomAdmin):
    """Rows to look at: nobody adds, changes or deletes them here."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Rows are written by the services alone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows never change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows stay."""
        return False


@admin.register(Project)
class ProjectAdmin(RoomAdmin):
    """Projects; archive one instead of deleting it."""

    list_display = ("name", "slug", "overlap", "queue_strategy", "created_at", "archived_at")
    search_fields = ("name", "slug")
    autocomplete_fields = ("created_by",)
    # The page of ways of asking checks the reasons; raw JSON could hold half a character.
    readonly_fields = ("eval_percent", "span_reasons", "created_at")


@admin.register(Guidelines)
class GuidelinesAdmin(ReadOnlyAdmin):
    """Every version that was ever in force."""

    list_display = ("project", "number", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    search_fields = ("project__name", "project__slug")


@admin.register(Membership)
class MembershipAdmin(RoomAdmin):
    """Who may do what."""

    list_display = ("user", "role", "project", "created_at")
    list_select_related = ("user", "project")
    list_filter = ("role",)
    search_fields = ("user__username", "project__name", "project__slug")
    autocomplete_fields = ("user", "project")


@admin.register(Rater)
class RaterAdmin(RoomAdmin):
    """Who judges; the account may go, the rater stays."""

    list_display = ("pseudonym", "project", "user", "external_id", "model_version", "created_at")
    list_select_related = ("project", "user", "model_version")
    search_fields = ("pseudonym", "external_id", "user__username")
    autocomplete_fields = ("project", "user", "model_version")
    readonly_fields = ("pseudonym", "gold_score", "agreement", "reliability", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A rater's judgments would lose their author."""
        return False


@admin.register(RaterPreferences)
class RaterPreferencesAdmin(ReadOnlyAdmin):
    """How accounts like the desk; their own to change."""

    list_display = ("user", "updated_at")
    list_select_related = ("user",)
    search_fields = ("user__username",)


@admin.register(Dimension)
class DimensionAdmin(ReadOnlyAdmin):
    """What responses are rated for; the project's page of ways of asking changes it."""

    list_display = ("name", "key", "project", "low", "high", "required", "archived_at")
    list_select_related = ("project",)
    search_fields = ("name", "key", "project__name", "project__slug")


@admin.register(Question)
class QuestionAdmin(ReadOnlyAdmin):
    """What is asked of items and responses; the project's page of ways of asking changes it."""

    list_display = ("text", "key", "project", "kind", "scope", "required", "archived_at")
    list_select_related = ("project",)
    search_fields = ("text", "key", "project__name", "project__slug")


@admin.register(ModelVersion)
class ModelVersionAdmin(RoomAdmin):
    """Models; the training side makes them."""

    list_display = ("name", "kind", "project", "parent", "created_at")
    list_select_related = ("project", "parent")
    list_filter = ("kind",)
    search_fields = ("name", "project__name", "project__slug")
    autocomplete_fields = ("project", "parent")
    # Facts about files, found out when they were hashed.
    readonly_fields = ("tokenizer_hash", "chat_template_hash", "files")


@admin.register(Prompt)
class PromptAdmin(ReadOnlyAdmin):
    """Conversations to be answered; their hash, split and completions hang on the text."""

    list_display = ("id", "project", "split", "source", "created_at")
    list_select_related = ("project",)
    list_filter = ("split",)
    search_fields = ("=text_hash", "source")


@admin.register(Completion)
class CompletionAdmin(ReadOnlyAdmin):
    """Responses and who wrote them."""

    list_display = ("id", "prompt", "model_version", "author", "source_model", "names_maker", "created_at")
    list_filter = ("names_maker",)
    list_select_related = ("prompt", "model_version", "author")
    search_fields = ("=text_hash", "source_model", "model_version__name")


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin):
    """Files that were uploaded, and what became of them."""

    list_display = ("id", "project", "name", "state", "format", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    list_filter = ("state",)
    search_fields = ("name",)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens of programs, as far as they are known here: not the tokens themselves."""

    list_display = ("start", "name", "user", "project", "expires_at", "revoked_at", "last_used_at")
    list_select_related = ("user", "project")
    search_fields = ("name", "start")


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Who did what, and when."""

    list_display = ("happened_at", "project", "actor_name", "action", "subject")
    list_select_related = ("project",)
    search_fields = ("action", "subject", "actor_name")


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    """Addresses that are told of a project's events; the secrets are not shown."""

    list_display = ("url", "project", "created_at")
    list_select_related = ("project",)
    search_fields = ("url",)
    exclude = ("secret",)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    """What was told, and how often it was tried."""

    list_display = ("public_id", "webhook", "event", "state", "attempts", "said", "created_at")
    list_select_related = ("webhook",)
    list_filter = ("state",)


@admin.register(Item)
class ItemAdmin(RoomAdmin):
    """What is handed out. Only its priority is for hands: slots belong to the leases."""

    list_display = ("id", "project", "purpose", "priority", "overlap", "open_slots", "created_at")
    list_select_related = ("project",)
    list_filter = ("purpose",)
    search_fields = ("=id", "project__name", "project__slug")
    readonly_fields = (
        "project",
        "prompt",
        "purpose",
        "content_hash",
        "queue_key",
        "overlap",
        "open_slots",
        "created_at",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Items are made by imports and by training, with their completions."""
        return False


@admin.register(ItemCompletion)
class ItemCompletionAdmin(ReadOnlyAdmin):
    """Which completion is a, which is b."""

    list_display = ("id", "item", "position", "completion")
    list_select_related = ("item", "completion")
    search_fields = ("=item__id", "=completion__id")


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin):
    """Leases: live, finished, skipped and run out."""

    list_display = ("public_id", "item", "rater", "state", "leased_at", "expires_at", "ended_at")
    list_select_related = ("item", "rater")
    list_filter = ("state",)
    search_fields = ("=public_id", "=item__id", "rater__pseudonym")


@admin.register(Judgment)
class JudgmentAdmin(ReadOnlyAdmin):
    """What raters said."""

    list_display = ("public_id", "item", "rater", "choice", "strength", "seconds", "judged_at")
    list_select_related = ("item", "rater")
    list_filter = ("choice",)
    search_fields = ("=public_id", "=item__id", "rater__pseudonym")
    date_hierarchy = "judged_at"


@admin.register(Rating)
class RatingAdmin(ReadOnlyAdmin):
    """Ratings of single responses."""

    list_display = ("id", "judgment", "completion", "dimension", "value")
    list_select_related = ("judgment", "completion", "dimension")
    search_fields = ("=judgment__public_id", "=completion__id")


@admin.register(Answer)
class AnswerAdmin(ReadOnlyAdmin):
    """Answers to questions."""

    list_display = ("id", "judgment", "question", "completion", "value")
    list_select_related = ("judgment", "question", "completion")
    search_fields = ("=judgment__public_id", "question__key")


@admin.register(SpanMark)
class SpanMarkAdmin(ReadOnlyAdmin):
    """Passages marked as good or bad."""

    list_display = ("id", "judgment", "completion", "start", "end", "verdict", "reason")
    list_select_related = ("judgment", "completion")
    search_fields = ("=judgment__public_id", "=completion__id")
