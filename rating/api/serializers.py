"""Shapes of what goes in and out on the rating side. Serializers check shapes; the services decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from rating.models import (
    AuditEvent,
    Completion,
    Dimension,
    Guidelines,
    Import,
    Item,
    Judgment,
    Membership,
    Project,
    Prompt,
    Question,
    Rater,
    Rating,
    Role,
    SpanMark,
)
from rating.services.projects import EDITABLE

MOST = 2**31 - 1
"""The largest number that every database keeps in an integer column."""


class StrictSerializer(serializers.Serializer):
    """Refuses fields that it does not know: a misspelt one would be ignored otherwise."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := sorted(set(map(str, data)) - set(self.fields))):
            words = _("There is no such field; known are: %(known)s.") % {"known": ", ".join(self.fields)}
            raise serializers.ValidationError({name[:100]: [words] for name in unknown[:20]})
        return super().to_internal_value(data)


class StrictModelSerializer(StrictSerializer, serializers.ModelSerializer):
    """The same for fields that are those of a table."""


class TokenSerializer(serializers.Serializer):
    """Whom the token acts for, and what it may do."""

    account = serializers.CharField()
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    project = serializers.CharField(allow_null=True)
    expires_at = serializers.DateTimeField()


class ProjectSerializer(serializers.ModelSerializer):
    """A project with its settings."""

    class Meta:
        model = Project
        fields = ("slug", *sorted(EDITABLE), "created_at", "archived_at")


class ProjectSettings(StrictModelSerializer):
    """Settings to be changed; what is left out stays."""

    class Meta:
        model = Project
        fields = tuple(sorted(EDITABLE))
        extra_kwargs = {name: {"required": False} for name in EDITABLE}

    span_reasons = serializers.ListField(child=serializers.CharField(max_length=200), required=False)
    scale_min = serializers.IntegerField(min_value=0, max_value=9, required=False)
    scale_max = serializers.IntegerField(min_value=0, max_value=9, required=False)


class NewProject(ProjectSettings):
    """A new project: a name, and what it does not have by default."""

    class Meta(ProjectSettings.Meta):
        fields = ("slug", "guidelines", *sorted(EDITABLE))
        extra_kwargs = {name: {"required": False} for name in EDITABLE - {"name"}}

    slug = serializers.CharField(max_length=60, required=False)
    guidelines = serializers.CharField(required=False, allow_blank=True, max_length=50_000)


class DimensionSerializer(StrictModelSerializer):
    """What each response is rated for."""

    class Meta:
        model = Dimension
        fields = ("key", "name", "style", "low", "high", "low_label", "high_label", "required")
        extra_kwargs = {"key": {"required": False}}


class QuestionSerializer(StrictModelSerializer):
    """A question asked of each item or response."""

    class Meta:
        model = Question
        fields = ("key", "text", "kind", "scope", "options", "low_label", "high_label", "required")
        extra_kwargs = {"key": {"required": False}}

    options = serializers.ListField(child=serializers.CharField(max_length=100), required=False)


class AskingSerializer(StrictSerializer):
    """What raters are asked: all dimensions and questions in their order. Settings are the project's."""

    settings = ProjectSettings(required=False, write_only=True)
    dimensions = DimensionSerializer(many=True)
    questions = QuestionSerializer(many=True)


class GuidelinesSerializer(serializers.ModelSerializer):
    """A version of the guidelines, in Markdown."""

    class Meta:
        model = Guidelines
        fields = ("number", "text", "created_at")


class NewGuidelines(StrictSerializer):
    """The next version."""

    text = serializers.CharField(allow_blank=True, max_length=50_000, trim_whitespace=False)


class MemberSerializer(serializers.ModelSerializer):
    """A role of an account."""

    username = serializers.CharField(source="user.username")

    class Meta:
        model = Membership
        fields = ("id", "username", "role", "created_at")


class NewMember(StrictSerializer):
    """A role for an account that exists."""

    username = serializers.CharField(max_length=150)
    role = serializers.ChoiceField(choices=Role.choices)


class AuditEventSerializer(serializers.ModelSerializer):
    """Who did what, and when; the actor is empty for what Ratchet did by itself."""

    actor = serializers.CharField(source="actor_name")
    token = serializers.CharField(source="token.start", default=None)

    class Meta:
        model = AuditEvent
        fields = ("id", "actor", "token", "action", "subject", "details", "happened_at")


class RaterSerializer(serializers.ModelSerializer):
    """A rater by its pseudonym, with its record."""

    judgments = serializers.IntegerField(source="judged", help_text="In force.")

    class Meta:
        model = Rater
        fields = ("pseudonym", "judgments", "gold_score", "agreement", "reliability", "created_at")


class PromptSerializer(serializers.ModelSerializer):
    """A conversation so far."""

    class Meta:
        model = Prompt
        fields = ("id", "messages", "split", "metadata", "source", "created_at")


class CompletionSerializer(serializers.ModelSerializer):
    """A response. Who wrote it is not told here: whoever rates as well should not learn it."""

    class Meta:
        model = Completion
        fields = ("id", "text")


class ItemSerializer(serializers.ModelSerializer):
    """A prompt with its responses; the first is `a`, the second `b`."""

    prompt = PromptSerializer()
    completions = serializers.SerializerMethodField()

    class Meta:
        model = Item
        fields = ("id", "purpose", "prompt", "completions", "priority", "overlap", "open_slots", "created_at")

    @extend_schema_field(CompletionSerializer(many=True))
    def get_completions(self, item: Item) -> Any:
        """In canonical order."""
        return CompletionSerializer([place.completion for place in item.places.all()], many=True).data


class RatingSerializer(serializers.ModelSerializer):
    """A rating of one response; without a dimension the overall one."""

    dimension = serializers.SlugRelatedField("key", read_only=True, allow_null=True)

    class Meta:
        model = Rating
        fields = ("completion", "dimension", "value")


class AnswerSerializer(serializers.Serializer):
    """An answer to a question, of the item or of one response."""

    question = serializers.CharField(source="question.key")
    completion = serializers.IntegerField(source="completion_id", allow_null=True)
    value = serializers.JSONField()


class SpanMarkSerializer(serializers.ModelSerializer):
    """A passage marked as good or bad, in Unicode code points."""

    class Meta:
        model = SpanMark
        fields = ("completion", "start", "end", "verdict", "reason")


class JudgmentSerializer(serializers.ModelSerializer):
    """What one rater said of one item, in ids of completions."""

    id = serializers.UUIDField(source="public_id")
    rater = serializers.CharField(source="rater.pseudonym")
    purpose = serializers.CharField(source="item.purpose")
    guidelines = serializers.IntegerField(source="guidelines.number", default=None)
    supersedes = serializers.UUIDField(source="supersedes.public_id", default=None)
    ratings = RatingSerializer(many=True)
    answers = AnswerSerializer(many=True)
    span_marks = SpanMarkSerializer(many=True)

    class Meta:
        model = Judgment
        fields = (
            *(
                "id",
                "item",
                "rater",
                "purpose",
                "guidelines",
                "supersedes",
                "choice",
                "preferred",
                "strength",
            ),
            *(
                "ranking",
                "none_good",
                "asked",
                "safety",
                "intent",
                "rewrite",
                "flags",
                "rationale",
                "seconds",
            ),
            *("ratings", "answers", "span_marks", "judged_at"),
        )


class ImportSerializer(serializers.ModelSerializer):
    """A file that is taken in: its state, how far it is, and what became of it."""

    class Meta:
        model = Import
        fields = (
            *("id", "name", "size", "format", "columns", "keep_good", "dry_run", "state", "phase", "done"),
            *("total", "report", "errors", "created_at", "queued_at", "ended_at"),
        )
