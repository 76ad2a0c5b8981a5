"""Pages for requests that are refused before a view sees them, or that broke one."""

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.translation import get_language_from_request, override
from django.utils.translation import gettext as _
from django.views import defaults

from rating.api.problems import is_api, plain


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say in plain words that the form's token did not fit, and what to do; status 403."""
    return render(request, "403_csrf.html", {"reason": reason}, status=403)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Status 400, in the language of the request: it may have broken before that was looked at."""
    with override(get_language_from_request(request)):
        if is_api(request):
            return plain(400, _("The request cannot be read."))
        return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Status 500, in the language of the request; asks neither the session nor the database."""
    with override(get_language_from_request(request)):
        if is_api(request):
            return plain(500, _("Something broke on our side; nothing was changed."))
        return defaults.server_error(request)
