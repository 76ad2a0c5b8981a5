"""Setting a project up: its settings, its guidelines, its members."""

import re

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from rating.models import Guidelines, Membership, Project, Prompt, Rater, Rating, Role, User
from rating.prepared import Prepared, whole
from rating.presets import PLAIN
from rating.services.audit import record_event
from rating.services.errors import too_long
from rating.services.texts import TextError, check_text

RESERVED_SLUGS = frozenset({"new"})
EDITABLE = frozenset(
    {
        "name",
        "description",
        "overlap",
        "queue_strategy",
        "lease_seconds",
        "scale_min",
        "scale_max",
        "eval_percent",
        "preset",
        "undo_seconds",
        *PLAIN,
    }
)
MAX_GUIDELINES = 50_000
MAX_SCALE = 9


class ProjectError(ValueError):
    """A change that the project cannot take: `field` says which part, the message what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def create_project(
    user: User | None, *, name: str, slug: str = "", guidelines: str = "", **settings: object
) -> Project:
    """A new project with its first guidelines; the account that makes it becomes its admin and operator.

    Without a slug, one is made from the name, with a number when it is taken.

    Raises:
        ProjectError: the slug is taken or reserved, a setting is unknown or unfit, the guidelines too long.
    """
    _check_settings({"name": name, **settings})
    guidelines = _check_guidelines(guidelines)
    slug = _check_slug(slug) if slug else _free_slug(name)
    project = Project(slug=slug, name=name, created_by=user, **settings)
    _check_scale(project.scale_min, project.scale_max)
    try:
        with transaction.atomic():
            project.save(force_insert=True)
            Guidelines.objects.create(project=project, number=1, text=guidelines, created_by=user)
            if user is not None:
                for role in (Role.ADMIN, Role.OPERATOR):
                    Membership.objects.create(project=project, user=user, role=role)
            record_event("project.created", project, project.slug)
    except IntegrityError:
        words = _("A project with the address “%(slug)s” exists; choose another.")
        raise ProjectError("slug", words % {"slug": slug}) from None
    return project


@transaction.atomic
def update_project(project: Project, **settings: object) -> Project:
    """Change settings. Overlap and queue strategy hold for items made from now on.

    Raises:
        ProjectError: a setting is unknown or unfit, the share held out is changed although there are prompts,
            or the scale although there are ratings on the old one.
    """
    _check_settings(settings)
    stored = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    changed = {name: value for name, value in settings.items() if getattr(stored, name) != value}
    if "eval_percent" in changed and Prompt.objects.filter(project=stored).exists():
        raise ProjectError(
            "eval_percent",
            _("The project has prompts, and each keeps its side: this can no longer be changed."),
        )
    if {"scale_min", "scale_max"} & changed.keys() and has_ratings(stored):
        raise ProjectError(
            "scale_max" if "scale_max" in changed else "scale_min",
            _("There are ratings on this scale already: it can no longer be changed."),
        )
    for name, value in changed.items():
        setattr(stored, name, value)
    _check_scale(stored.scale_min, stored.scale_max)
    if changed:
        stored.save(update_fields=sorted(changed))
        record_event("project.changed", stored, stored.slug, **changed)
    return stored


def has_ratings(project: Project) -> bool:
    """Whether anybody has rated on the project's scale; dimensions have their own."""
    return Rating.objects.filter(judgment__item__project=project, dimension__isnull=True).exists()


def publish_guidelines(project: Project, text: str, user: User | None = None) -> Guidelines:
    """A new numbered version of the guidelines; the older ones stay. The same text again makes none.

    Raises:
        ProjectError: no storable text of at most 50,000 characters.
    """
    text = _check_guidelines(text)
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        newest = current_guidelines(project)
        if newest is not None and newest.text == text:
            return newest
        number = Guidelines.objects.filter(project=project).aggregate(last=Max("number"))["last"] or 0
        made = Guidelines.objects.create(project=project, number=number + 1, text=text, created_by=user)
        record_event("guidelines.published", project, made.number)
        return made


def current_guidelines(project: Project) -> Guidelines | None:
    """The newest version of the guidelines, if there is one."""
    return Guidelines.objects.filter(project=project).order_by("-number").first()


@transaction.atomic
def add_member(project: Project, user: User, role: str) -> Membership:
    """Give an account a role; a role that it has already is left as it is.

    Raises:
        ProjectError: there is no such role.
    """
    if role not in Role.values:
        raise ProjectError("role", _("A role is one of %(roles)s.") % {"roles": ", ".join(Role.values)})
    membership, is_new = Membership.objects.get_or_create(project=project, user=user, role=role)
    if is_new:
        record_event("member.added", project, user.get_username(), role=role)
    return membership


@transaction.atomic
def remove_member(membership: Membership) -> None:
    """Take one role away. What the account judged stays.

    Raises:
        ProjectError: it is the project's last admin.
    """
    Project.objects.select_for_update(no_key=True).get(pk=membership.project_id)
    admins = Membership.objects.filter(project=membership.project_id, role=Role.ADMIN)
    if membership.role == Role.ADMIN and not admins.exclude(pk=membership.pk).exists():
        raise ProjectError("role", _("A project keeps at least one admin: name another first."))
    record_event("member.removed", membership.project, membership.user.get_username(), role=membership.role)
    membership.delete()


def rater_for(project: Project, user: User) -> Rater:
    """The account's rater in the project, made at its first visit; two requests at once get the same."""
    rater = _RATER.first(project=project.pk, user=user.pk)
    if rater is not None:
        return rater
    try:
        return Rater.objects.get_or_create(project=project, user=user)[0]
    except IntegrityError:
        # The account's rater did not exist, so the drawn pseudonym was taken: draw another.
        return Rater.objects.get_or_create(project=project, user=user)[0]


def _check_settings(settings: dict[str, object]) -> None:
    unknown = sorted(set(settings) - EDITABLE)
    if unknown:
        words = _("A project has no setting called %(name)s.")
        raise ProjectError(unknown[0], words % {"name": unknown[0]})
    for name, label in (("name", gettext_noop("Name")), ("description", gettext_noop("Description"))):
        try:
            check_text(settings.get(name, ""), _(label))
        except TextError as error:
            raise ProjectError(name, str(error)) from None
    if "name" in settings and not str(settings["name"]).strip():
        raise ProjectError("name", _("Give the project a name."))


def _check_scale(low: int, high: int) -> None:
    """Every rating is one digit, so that it is one key."""
    if not 0 <= low < high <= MAX_SCALE:
        words = _("A scale goes from 0 or more up to %(highest)s or less.")
        raise ProjectError("scale_max", words % {"highest": MAX_SCALE})


def _check_guidelines(text: str) -> str:
    try:
        check_text(text, _("Guidelines"))
    except TextError as error:
        raise ProjectError("text", str(error)) from None
    if len(text) > MAX_GUIDELINES:
        raise ProjectError("text", too_long(text, MAX_GUIDELINES))
    return text.replace("\r\n", "\n").strip()


def _check_slug(slug: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", slug) or len(slug) > 60:
        raise ProjectError("slug", _("Use up to 60 small letters, digits and hyphens, as in `kind-answers`."))
    if slug in RESERVED_SLUGS:
        words = _("The address “%(slug)s” is taken by a page of Ratchet; choose another.")
        raise ProjectError("slug", words % {"slug": slug})
    return slug


def _free_slug(name: str) -> str:
    stem = slugify(name)[:50].strip("-_") or "project"
    taken = set(Project.objects.filter(slug__startswith=stem).values_list("slug", flat=True)) | RESERVED_SLUGS
    numbered = (f"{stem}-{number}" for number in range(2, len(taken) + 3))
    return stem if stem not in taken else next(slug for slug in numbered if slug not in taken)


_RATER = Prepared(lambda: Rater.objects.filter(project=whole("project"), user=whole("user")))
