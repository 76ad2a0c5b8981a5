"""The page of the audit trail."""

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from rating.access import MemberRequest, project_view
from rating.models import AuditEvent, Project, Role

ON_A_PAGE = 100


@project_view(Role.ADMIN)
@require_safe
def audit(request: MemberRequest, project: Project) -> HttpResponse:
    """Who did what in the project, newest first."""
    rows = AuditEvent.objects.filter(project=project).select_related("token")
    page = Paginator(rows, ON_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "rating/audit.html", {"project": project, "page": page})
