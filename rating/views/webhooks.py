"""The page of a project's webhooks: added, tried, removed."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from rating.access import MemberRequest, project_view
from rating.models import Project, Role, Webhook, WebhookDelivery
from rating.services.webhooks import WebhookError, add_webhook, put_up, remove_webhook
from rating.webhook_forms import WebhookForm

RECENT = 30


@project_view(Role.ADMIN)
@never_cache
def webhooks(request: MemberRequest, project: Project) -> HttpResponse:
    """The addresses and what they were told; a new one's secret is shown in the answer, and never again."""
    form, made = WebhookForm(request.POST if request.method == "POST" else None), None
    if form.is_valid():
        try:
            made = add_webhook(project, form.cleaned_data["url"])
        except WebhookError as error:
            form.add_error(error.field, error.message)
        else:
            form = WebhookForm()
    deliveries = WebhookDelivery.objects.filter(webhook__project=project).select_related("webhook")[:RECENT]
    context = {"project": project, "form": form, "made": made, "deliveries": deliveries}
    context["webhooks"] = Webhook.objects.filter(project=project)
    return render(request, "rating/webhooks.html", context, status=422 if form.is_bound else 200)


@project_view(Role.ADMIN)
@require_POST
def drop_webhook(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Tell the address no more."""
    remove_webhook(get_object_or_404(Webhook, project=project, pk=pk))
    messages.success(request, _("The webhook is removed."))
    return redirect("rating:webhooks", slug=project.slug)


@project_view(Role.ADMIN)
@require_POST
def test_webhook(request: MemberRequest, project: Project, pk: int) -> HttpResponse:
    """Send the address a test; what came of it stands on the page a moment later."""
    put_up(get_object_or_404(Webhook, project=project, pk=pk), project, Webhook.Event.TEST, {})
    messages.info(request, _("A test is on its way; load the page again to see what came of it."))
    return redirect("rating:webhooks", slug=project.slug)
