"""Lists in pages: a signed cursor says where the next one begins, so that new rows shift nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rating.api.serializers import StrictSerializer

PAGE, LONGEST_PAGE = 50, 200
SALT = "rating.api.pages"


class PageQuery(StrictSerializer):
    """What every list takes; a list of its own orderings or filters extends it."""

    limit = serializers.IntegerField(min_value=1, max_value=LONGEST_PAGE, default=PAGE)
    cursor = serializers.CharField(required=False, max_length=1000, help_text="From `next`; opaque.")


def ordered_by(*names: str) -> serializers.ChoiceField:
    """The orderings that a list allows, each of them downwards too; the first is the default."""
    choices = [sign + name for name in names for sign in ("-", "")]
    return serializers.ChoiceField(choices=choices, default=choices[0])


def answer_page(
    request: Request,
    rows: QuerySet[Any],
    query: Mapping[str, Any],
    show: Callable[[list[Any]], Iterable[Any]],
    fields: Mapping[str, str],
) -> Response:
    """One page of the rows as `{"results": [...], "next": address or null}`.

    Args:
        query: the checked PageQuery, with `ordering` where the list has one.
        show: the rows of the page as JSON.
        fields: the column of each ordering; the primary key breaks ties.

    Raises:
        ValidationError: the cursor is not one of this list and ordering.
    """
    ordering = query.get("ordering") or f"-{next(iter(fields))}"
    downwards, column = ordering.startswith("-"), fields[ordering.removeprefix("-")]
    sign, after = ("-", "lt") if downwards else ("", "gt")
    salt = f"{SALT}:{request.path}:{ordering}"
    if cursor := query.get("cursor"):
        value, pk = read_cursor(cursor, salt)
        beyond = Q(**{f"{column}__{after}": value})
        if column != "pk":
            beyond |= Q(**{column: value, f"pk__{after}": pk})
        rows = rows.filter(beyond)
    found = list(rows.order_by(f"{sign}{column}", f"{sign}pk")[: query["limit"] + 1])
    shown, more = found[: query["limit"]], len(found) > query["limit"]
    return Response(
        {
            "results": list(show(shown)),
            "next": next_address(request, shown[-1], column, salt) if more else None,
        }
    )


def next_address(request: Request, last: Model, column: str, salt: str) -> str:
    """The address of the page after this row."""
    value = getattr(last, column)
    place = [value.isoformat() if hasattr(value, "isoformat") else value, last.pk]
    wanted = request.query_params.copy()
    wanted["cursor"] = signing.dumps(place, salt=salt)
    return request.build_absolute_uri(f"{request.path}?{wanted.urlencode()}")


def read_cursor(text: str, salt: str) -> tuple[Any, Any]:
    """Where the page begins. Raises ValidationError."""
    try:
        value, pk = signing.loads(text, salt=salt)
    except signing.BadSignature:
        words = _("This is no cursor of this list in this order; take it from `next`.")
        raise serializers.ValidationError({"cursor": [words]}) from None
    return value, pk
