"""The door: JSON that every database can store, or a refusal that says where the fault is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.serializers import ValidationError

MAX_DEPTH = 60


class TooLarge(APIException):
    """413: more than is taken."""

    status_code = 413
    default_code = "too_large"


class JSONDoorParser(BaseParser):
    """UTF-8 JSON of bounded size and depth, without NUL, lone surrogates, NaN and infinities."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The value. Raises ParseError (400), TooLarge (413), ValidationError (422) at the field."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(_("The body is over %(limit)s bytes.") % {"limit": limit})
        try:
            value = json.loads(data.decode("utf-8"), parse_constant=refuse_constant, parse_float=read_float)
        except (ValueError, RecursionError) as error:
            told = str(error) or type(error).__name__
            raise ParseError(_("The body is no JSON: %(reason)s.") % {"reason": told[:200]}) from None
        check_value(value, "", 0)
        return value


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_float(text: str) -> float:
    """A finite number; 1e999 would become infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def check_value(value: Any, where: str, depth: int) -> None:
    """Refuse what cannot be stored, naming its place as in `plan.0.settings`. Raises ValidationError."""
    if depth > MAX_DEPTH:
        raise ParseError(_("The body is nested more than %(limit)s deep.") % {"limit": MAX_DEPTH})
    if isinstance(value, str):
        if fault := fault_of(value):
            raise ValidationError({where or "body": [fault]})
    elif isinstance(value, dict):
        for name, inner in value.items():
            if fault := fault_of(name):
                raise ValidationError({where or "body": [fault]})
            check_value(inner, f"{where}.{name}" if where else name, depth + 1)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            check_value(inner, f"{where}.{place}" if where else str(place), depth + 1)


def fault_of(text: str) -> str:
    """What keeps a text from being stored; empty when nothing does."""
    if "\x00" in text:
        return _("Holds a NUL character; remove it.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _("Holds a lone surrogate; write the whole character instead.")
    return ""
