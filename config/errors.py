"""Pages for requests that are refused before a view sees them."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say in plain words that the form's token did not fit, and what to do; status 403."""
    return render(request, "403_csrf.html", {"reason": reason}, status=403)
