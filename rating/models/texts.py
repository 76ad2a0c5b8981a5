"""Texts and who wrote them: prompts, completions, model versions."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from rating.models.people import Rater
from rating.models.projects import Project


class Split(models.TextChoices):
    """Which part a prompt belongs to; decided once, by a hash of its text."""

    TRAIN = "train", pgettext_lazy("split of the prompts", "Train")
    EVAL = "eval", pgettext_lazy("split of the prompts", "Eval")


class ModelVersion(models.Model):
    """A nameable model. The user model of a project is its promoted policy.

    The run that made it is `made_by`, set from the training side.
    """

    class Kind(models.TextChoices):
        """What the model does."""

        POLICY = "policy", _("Policy")
        REWARD = "reward", _("Reward model")

    project = models.ForeignKey(Project, models.CASCADE, related_name="model_versions")
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=10, choices=Kind)
    base = models.CharField(
        max_length=500, blank=True, help_text="A model directory on this machine, or the id of a hub model."
    )
    adapter = models.CharField(max_length=500, blank=True, help_text="Directory of an adapter, if any.")
    system_prompt = models.TextField(blank=True)
    endpoint = models.URLField(blank=True, help_text="OpenAI-compatible address that serves this model.")
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")
    tokenizer_hash = models.CharField(max_length=64, blank=True)
    chat_template_hash = models.CharField(max_length=64, blank=True)
    files = models.JSONField(default=dict, blank=True, help_text="sha256 of each file of the model.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="model_version_name_once"),
            models.CheckConstraint(
                condition=Q(kind__in=["policy", "reward"]), name="model_version_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Prompt(models.Model):
    """A conversation so far, as chat messages, to be answered."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="prompts")
    messages = models.JSONField(help_text='Chat messages: [{"role": ..., "content": ...}, ...].')
    text_hash = models.CharField(max_length=64, editable=False, help_text="sha256 of the canonical messages.")
    split = models.CharField(max_length=5, choices=Split)
    metadata = models.JSONField(default=dict, blank=True)
    source = models.CharField(max_length=200, blank=True, help_text="Where it came from: a file or a page.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "text_hash"], name="prompt_once_per_project"),
            models.CheckConstraint(condition=Q(split__in=Split.values), name="prompt_split_known"),
        ]
        indexes = [models.Index(fields=["project", "split"], name="prompt_split")]

    def __str__(self) -> str:
        return f"prompt {self.pk}"


class Completion(models.Model):
    """One response to a prompt, and the model version or human that wrote it."""

    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="completions")
    text = models.TextField(blank=True)
    text_hash = models.CharField(max_length=64, editable=False)
    model_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="completions"
    )
    author = models.ForeignKey(Rater, models.PROTECT, null=True, blank=True, related_name="completions")
    source_model = models.CharField(
        max_length=200, blank=True, help_text="The model's name in the source, for imported responses."
    )
    sampling = models.JSONField(default=dict, blank=True, help_text="Temperature, top-p, seed and the like.")
    names_maker = models.BooleanField(
        default=False, help_text="The text seems to say which model or company wrote it."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["prompt", "text_hash", "source_model"],
                condition=Q(model_version__isnull=True, author__isnull=True),
                name="completion_once_per_source",
            ),
            models.CheckConstraint(
                condition=Q(model_version__isnull=True) | Q(author__isnull=True),
                name="completion_one_author",
            ),
        ]

    def __str__(self) -> str:
        return f"completion {self.pk}"
