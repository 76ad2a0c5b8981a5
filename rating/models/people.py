"""People: accounts, what they may do in a project, and raters with their record."""

import secrets

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext

PSEUDONYM_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_pseudonym() -> str:
    """A name for a rater that says nothing about the person, such as `R-7KQ2M9`."""
    return "R-" + "".join(secrets.choice(PSEUDONYM_ALPHABET) for _place in range(6))


class User(AbstractUser):
    """An account. What it may do is said per project by its memberships."""


class RaterPreferences(models.Model):
    """How an account likes the rating desk, the same in all its projects; rating.preferences reads it."""

    user = models.OneToOneField(User, models.CASCADE, related_name="preferences")
    settings = models.JSONField(default=dict, help_text="What differs from the defaults.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "rater preferences"

    def __str__(self) -> str:
        return f"preferences of {self.user}"


class Role(models.TextChoices):
    """What a member may do in a project."""

    RATER = "rater", _("Rater")
    ADMIN = "admin", _("Admin")
    OPERATOR = "operator", _("Operator")

    @property
    def in_words(self) -> str:
        """The role as a word within a sentence or on a badge, in the language of the page."""
        return {
            Role.RATER: pgettext("role", "rater"),
            Role.ADMIN: pgettext("role", "admin"),
            Role.OPERATOR: pgettext("role", "operator"),
        }[self]


class Membership(models.Model):
    """One role of one account in one project; an account may have several."""

    project = models.ForeignKey("rating.Project", models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project", "role"], name="membership_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"

    @property
    def role_in_words(self) -> str:
        """The role as a word within a sentence."""
        return Role(self.role).in_words


class Rater(models.Model):
    """Who judges in a project: a person, an imported rater known by a name of the source, or a model.

    The account may be deleted; the rater and the judgments stay, pseudonymous.
    """

    project = models.ForeignKey("rating.Project", models.CASCADE, related_name="raters")
    user = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="raters")
    model_version = models.ForeignKey(
        "rating.ModelVersion", models.PROTECT, null=True, blank=True, related_name="raters"
    )
    external_id = models.CharField(max_length=200, blank=True, help_text="The rater's name in the source.")
    pseudonym = models.CharField(max_length=12, default=new_pseudonym, editable=False)
    gold_score = models.FloatField(null=True, blank=True)
    agreement = models.FloatField(null=True, blank=True)
    reliability = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "user"], condition=Q(user__isnull=False), name="rater_once_per_account"
            ),
            models.UniqueConstraint(
                fields=["project", "external_id"], condition=~Q(external_id=""), name="rater_once_per_source"
            ),
            models.UniqueConstraint(fields=["project", "pseudonym"], name="rater_pseudonym_once"),
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{field}__isnull": True})
                    | Q(**{f"{field}__gte": 0.0, f"{field}__lte": 1.0}),
                    name=f"rater_{field}_is_a_share",
                )
                for field in ("gold_score", "agreement", "reliability")
            ),
        ]

    def __str__(self) -> str:
        return self.pseudonym
