"""The navigation of a project: which rooms a member sees, and which one the page belongs to."""

from typing import Any, NamedTuple

from django import template
from django.template import RequestContext
from django.urls import reverse
from django.utils.translation import gettext_lazy, pgettext_lazy

from rating.models import Role

register = template.Library()

ANYBODY = frozenset(Role.values)
ADMIN = frozenset({Role.ADMIN.value})
OPERATOR = frozenset({Role.OPERATOR.value, Role.ADMIN.value})


class Room(NamedTuple):
    """One entry: its page, who sees it, and the other pages that belong to it."""

    view: str
    label: Any
    icon: str
    roles: frozenset[str]
    also: frozenset[str] = frozenset()


ROOMS = (
    Room(
        "rating:judge",
        pgettext_lazy("verb", "Rate"),
        "scale",
        frozenset({Role.RATER.value}),
        frozenset({"rating:answer"}),
    ),
    Room("rating:project", gettext_lazy("Overview"), "layout-dashboard", ANYBODY),
    Room("rating:import", gettext_lazy("Import"), "upload", ADMIN),
    Room(
        "training:snapshots",
        gettext_lazy("Snapshots & export"),
        "archive",
        OPERATOR,
        frozenset({"training:snapshot", "training:new_snapshot", "training:freeze_snapshot"}),
    ),
    Room(
        "training:overview",
        gettext_lazy("Training"),
        "activity",
        OPERATOR,
        frozenset(
            {
                "training:new_run",
                "training:runs",
                "training:run",
                "training:run_log",
                "training:new_trigger",
                "training:edit_trigger",
            }
        ),
    ),
    Room(
        "training:versions",
        gettext_lazy("Versions"),
        "git-branch",
        OPERATOR,
        frozenset({"training:evaluation", "training:add_version", "training:promote"}),
    ),
    Room(
        "rating:members",
        gettext_lazy("Members"),
        "users",
        ADMIN,
        frozenset({"rating:audit", "rating:webhooks"}),
    ),
    Room(
        "rating:asking",
        gettext_lazy("Ways of asking"),
        "file-text",
        ADMIN,
        frozenset({"rating:preview_asking"}),
    ),
    Room("rating:settings", gettext_lazy("Settings"), "sliders-horizontal", ADMIN),
)


@register.inclusion_tag("project_navigation.html", takes_context=True)
def project_navigation(context: RequestContext) -> dict[str, object]:
    """The rooms of `project` that the member's `request.project_roles` open."""
    request = context["request"]
    here = request.resolver_match.view_name if request.resolver_match else ""
    roles: frozenset[str] = getattr(request, "project_roles", frozenset())
    links = [
        {
            "url": reverse(room.view, kwargs={"slug": context["project"].slug}),
            "label": room.label,
            "icon": f"icons/{room.icon}.svg",
            "current": "page" if room.view == here else "true" if here in room.also else "",
        }
        for room in ROOMS
        if room.roles & roles
    ]
    return {"links": links}
