"""What every page knows."""

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import get_language_info


@dataclass(frozen=True)
class Language:
    """A language that pages are shown in: its code, its own name, the direction in which it is written."""

    code: str
    name: str
    direction: str


def languages() -> list[Language]:
    """The languages of the settings. Their names are never translated: people look for their own."""
    return [
        Language(code, name, "rtl" if get_language_info(code)["bidi"] else "ltr")
        for code, name in settings.LANGUAGES
    ]


def site(request: HttpRequest) -> dict[str, object]:
    """Whether this is a demo installation, which pages then say, and the languages to choose from."""
    return {"demo": settings.DEMO, "languages": languages()}
