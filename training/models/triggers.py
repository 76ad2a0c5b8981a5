"""When a run starts by itself."""

from django.db import models
from django.db.models import Q

from rating.models import Project


class Trigger(models.Model):
    """Queues a plan of runs every so many new judgments, on a schedule, or both (whichever comes first).

    `plan` is a list of steps, `{"recipe": name, "settings": {field: value}}`, run in order; settings are the
    recipe's own fields that differ from its defaults.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="triggers")
    name = models.CharField(max_length=120)
    enabled = models.BooleanField(default=True)
    every_judgments = models.PositiveIntegerField(
        null=True, blank=True, help_text="Fire when this many judgments are new since the last firing."
    )
    schedule = models.CharField(
        max_length=100, blank=True, help_text="Cron expression in UTC, for example `0 3 * * *`."
    )
    plan = models.JSONField(default=list)
    judgments_seen = models.PositiveBigIntegerField(
        default=0, help_text="How many trainable judgments there were when it last fired."
    )
    last_fired_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="trigger_name_once"),
            models.CheckConstraint(
                condition=Q(every_judgments__isnull=True) | Q(every_judgments__gte=1),
                name="trigger_every_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.name
