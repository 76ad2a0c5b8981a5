"""The page on which an account says how it likes the desk."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from rating.models import User
from rating.preferences import Preferences, PreferencesForm, preferences_of, save_preferences


@login_required
def preferences(request: HttpRequest) -> HttpResponse:
    """Looks, habits and keys of the desk; `next` is the page to go back to."""
    user = cast(User, request.user)
    back = request.POST.get("next", request.GET.get("next", ""))
    if not url_has_allowed_host_and_scheme(back, None) or not back.startswith("/"):
        back = ""
    form = PreferencesForm(preferences_of(user), request.POST or None)
    if request.method == "POST" and ("reset" in request.POST or form.is_valid()):
        save_preferences(user, Preferences() if "reset" in request.POST else form.preferences())
        messages.success(request, _("Your preferences are saved."))
        return redirect(back or "rating:preferences")
    status = 422 if form.is_bound else 200
    return render(request, "rating/preferences.html", {"form": form, "back": back}, status=status)
