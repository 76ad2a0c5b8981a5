"""The page of an account's API tokens: made, shown once, revoked."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from rating.models import ApiToken, User
from rating.services.tokens import TokenError, create_token, revoke_token
from rating.token_forms import TokenForm

LISTED = 100


@login_required
@never_cache
def tokens(request: HttpRequest) -> HttpResponse:
    """The tokens and the form for another; a new one is shown in the answer to it, and never again."""
    user, text = cast(User, request.user), ""
    form = TokenForm(user, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            _token, text = create_token(user, **form.cleaned_data)
        except TokenError as error:
            form.add_error(error.field, error.message)
        else:
            form = TokenForm(user)
    rows = ApiToken.objects.filter(user=user).select_related("project")[:LISTED]
    context = {"form": form, "tokens": rows, "made": text}
    return render(request, "rating/tokens.html", context, status=422 if form.is_bound else 200)


@login_required
@require_POST
def end_token(request: HttpRequest, pk: int) -> HttpResponse:
    """Revoke one of the account's own tokens."""
    token = get_object_or_404(ApiToken, user=request.user.pk, pk=pk)
    revoke_token(token)
    messages.success(request, _("The token %(name)s is revoked.") % {"name": token.name})
    return redirect("rating:tokens")
