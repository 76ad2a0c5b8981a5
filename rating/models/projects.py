"""A project: one rating campaign, with its guidelines, dimensions and questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from rating.models.people import User

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


class ProjectQuerySet(models.QuerySet["Project"]):
    """Reads of projects."""

    def visible_to(self, user: User | AnonymousUser) -> ProjectQuerySet:
        """The projects that this account is a member of; all of them for a superuser."""
        if not user.is_authenticated:
            return self.none()
        if user.is_superuser:
            return self
        return self.filter(memberships__user=user).distinct()


class Project(models.Model):
    """One rating campaign: guidelines, questions, scale, overlap, queue strategy, members."""

    class QueueStrategy(models.TextChoices):
        """In which order open items of equal priority are handed out."""

        OLDEST = "oldest", _("Oldest first")
        SHUFFLED = "shuffled", _("Shuffled")

    class Comparison(models.TextChoices):
        """How two responses are compared; see `rating.services.points` for how points are stored."""

        CHOICE = "choice", _("Choose one; say how much better if you like")
        STRENGTHS = "strengths", _("Choose one and say how much better, in four strengths")
        SEVEN = "seven", _("Seven points, the middle is a tie")
        EIGHT = "eight", _("Eight points, no tie")

    class Asked(models.TextChoices):
        """Which response is picked. Stored is always what is better, see `Judgment.asked`."""

        BETTER = "better", _("The better response")
        HARMFUL = "harmful", _("The more harmful response")

    class Rationale(models.TextChoices):
        """Whether raters write why."""

        OFF = "off", pgettext_lazy("a reason in words", "Not asked")
        OPTIONAL = "optional", pgettext_lazy("a reason in words", "Optional")
        REQUIRED = "required", pgettext_lazy("a reason in words", "Required")

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    overlap = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="How many raters judge each item.",
    )
    queue_strategy = models.CharField(
        max_length=10,
        choices=QueueStrategy,
        default=QueueStrategy.SHUFFLED,
        help_text="Which item comes next.",
    )
    lease_seconds = models.PositiveIntegerField(
        default=1800,
        validators=[MinValueValidator(30), MaxValueValidator(604_800)],
        help_text="Seconds a rater may keep an item before it is offered to somebody else.",
    )
    scale_min = models.SmallIntegerField(default=1, help_text="Lowest rating of a single response.")
    scale_max = models.SmallIntegerField(default=5, help_text="Highest rating of a single response.")
    allow_tie = models.BooleanField(default=True, help_text="Raters may call two responses equally good.")
    allow_both_bad = models.BooleanField(default=True, help_text="Raters may call both responses bad.")
    preset = models.CharField(
        max_length=30, blank=True, help_text="The way of asking that it began with, see rating.presets."
    )
    comparison = models.CharField(max_length=10, choices=Comparison, default=Comparison.CHOICE)
    asked = models.CharField(max_length=10, choices=Asked, default=Asked.BETTER)
    pick_best = models.BooleanField(
        default=False, help_text="Three responses or more: pick one instead of ranking all."
    )
    rate_each = models.BooleanField(
        default=False, help_text="Two responses or more: rate each in every dimension as well."
    )
    pair_safety = models.BooleanField(default=False, help_text="Ask which of two responses are safe.")
    allow_none = models.BooleanField(default=False, help_text="Raters may say that none is good enough.")
    allow_rewrite = models.BooleanField(default=False, help_text="Raters may write a better response.")
    mark_spans = models.BooleanField(default=False, help_text="Raters may mark passages as good or bad.")
    span_reasons = models.JSONField(
        default=list, blank=True, help_text="Reasons offered for a mark; without any, the rater writes one."
    )
    rationale = models.CharField(max_length=10, choices=Rationale, default=Rationale.OPTIONAL)
    judge_whole = models.BooleanField(
        default=False, help_text="The whole conversation is judged, not its last turn alone."
    )
    ask_intent = models.BooleanField(default=False, help_text="Ask first what the attack wants to reach.")
    undo_seconds = models.PositiveIntegerField(
        default=600,
        validators=[MaxValueValidator(604_800)],
        help_text="Seconds in which a rater may take an answer back; 0 for never.",
    )
    eval_percent = models.PositiveSmallIntegerField(
        default=10,
        validators=[MaxValueValidator(90)],
        help_text="Per cent of the prompts that are held out for evaluation, chosen by a hash of their text.",
    )
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(overlap__gte=1), name="project_overlap_positive"),
            models.CheckConstraint(condition=Q(scale_max__gt=F("scale_min")), name="project_scale_ascends"),
            models.CheckConstraint(condition=Q(eval_percent__lte=90), name="project_eval_percent_bounded"),
            models.CheckConstraint(
                condition=Q(comparison__in=["choice", "strengths", "seven", "eight"]),
                name="project_comparison_known",
            ),
            models.CheckConstraint(condition=Q(asked__in=["better", "harmful"]), name="project_asked_known"),
            models.CheckConstraint(
                condition=Q(rationale__in=["off", "optional", "required"]), name="project_rationale_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Guidelines(models.Model):
    """One version of a project's guidelines; judgments remember which one was shown. Never changed."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="guidelines")
    number = models.PositiveIntegerField()
    text = models.TextField(blank=True, help_text="Markdown.")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        verbose_name_plural = "guidelines"
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="guidelines_numbered_once")]

    def __str__(self) -> str:
        return f"{self.project} guidelines {self.number}"


class AskedQuerySet(models.QuerySet[Any]):
    """Reads of what is asked."""

    def in_force(self) -> AskedQuerySet:
        """Without those that were taken out; what was said to these stays."""
        return self.filter(archived_at__isnull=True)


class Dimension(models.Model):
    """What each response is rated for, such as helpfulness, with words at both ends of its scale.

    Once it was rated, only its place and whether it is required change; see rating.services.asking.
    """

    class Style(models.TextChoices):
        """How the scale looks; thumbs are 0 (down) and 1 (up)."""

        NUMBERS = "numbers", _("Numbers")
        THUMBS = "thumbs", _("Thumbs")

    project = models.ForeignKey(Project, models.CASCADE, related_name="dimensions")
    key = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    style = models.CharField(max_length=10, choices=Style, default=Style.NUMBERS)
    low = models.PositiveSmallIntegerField(default=1)
    high = models.PositiveSmallIntegerField(default=5)
    low_label = models.CharField(max_length=60, blank=True)
    high_label = models.CharField(max_length=60, blank=True)
    position = models.PositiveSmallIntegerField(default=0)
    required = models.BooleanField(default=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = AskedQuerySet.as_manager()

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "key"], name="dimension_key_once"),
            models.CheckConstraint(condition=Q(high__gt=F("low"), high__lte=9), name="dimension_ascends"),
        ]

    def __str__(self) -> str:
        return self.name


class Question(models.Model):
    """A question asked of each item, or of each response of it.

    Once it was answered, only its place and whether it is required change; see rating.services.asking.
    """

    class Kind(models.TextChoices):
        """What an answer is: a boolean, an option, a number from 0 to 4, a text, or some of the options."""

        YES_NO = "yes_no", _("Yes or no")
        CHOICE = "choice", _("One of the options")
        SCALE = "scale", _("0 to 4")
        TEXT = "text", _("Free text")
        TAGS = "tags", _("Some of the options")

    class Scope(models.TextChoices):
        """What is asked about."""

        ITEM = "item", _("The item")
        RESPONSE = "response", _("Each response")

    project = models.ForeignKey(Project, models.CASCADE, related_name="questions")
    key = models.SlugField(max_length=40)
    text = models.CharField(max_length=300)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.YES_NO)
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.ITEM)
    options = models.JSONField(default=list, blank=True, help_text="A list of texts, for choices and tags.")
    low_label = models.CharField(max_length=60, blank=True)
    high_label = models.CharField(max_length=60, blank=True)
    position = models.PositiveSmallIntegerField(default=0)
    required = models.BooleanField(default=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = AskedQuerySet.as_manager()

    class Meta:
        ordering = ["position", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "key"], name="question_key_once"),
            models.CheckConstraint(
                condition=Q(kind__in=["yes_no", "choice", "scale", "text", "tags"]),
                name="question_kind_known",
            ),
            models.CheckConstraint(condition=Q(scope__in=["item", "response"]), name="question_scope_known"),
        ]

    def __str__(self) -> str:
        return self.text
