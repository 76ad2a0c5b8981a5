"""What every page knows."""

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, object]:
    """Whether this is a demo installation: pages then say so."""
    return {"demo": settings.DEMO}
