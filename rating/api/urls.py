"""The addresses of the rating side's API."""

from django.urls import path
from rest_framework.parsers import MultiPartParser

from rating.api.operations import endpoint
from rating.api.views import data, projects

app_name = "rating_api"
P = "projects/<slug:slug>/"
urlpatterns = [
    path("", endpoint(get=projects.read_token), name="token"),
    path("projects/", endpoint(get=projects.list_projects, post=projects.make_project), name="projects"),
    path(P, endpoint(get=projects.read_project, patch=projects.change_project), name="project"),
    path(f"{P}asking/", endpoint(get=projects.read_asking, put=projects.change_asking), name="asking"),
    path(
        f"{P}guidelines/",
        endpoint(get=projects.list_guidelines, post=projects.make_guidelines),
        name="guidelines",
    ),
    path(f"{P}guidelines/<int:number>/", endpoint(get=projects.read_guidelines), name="guidelines_version"),
    path(f"{P}members/", endpoint(get=projects.list_members, post=projects.make_member), name="members"),
    path(f"{P}members/<int:pk>/", endpoint(delete=projects.drop_member), name="member"),
    path(f"{P}audit/", endpoint(get=projects.list_audit), name="audit"),
    path(f"{P}prompts/", endpoint(get=data.list_prompts), name="prompts"),
    path(f"{P}items/", endpoint(get=data.list_items), name="items"),
    path(f"{P}raters/", endpoint(get=data.list_raters), name="raters"),
    path(f"{P}judgments/", endpoint(get=data.list_judgments), name="judgments"),
    path(
        f"{P}imports/",
        endpoint((MultiPartParser,), get=data.list_imports, post=data.make_import),
        name="imports",
    ),
    path(f"{P}imports/<int:pk>/", endpoint(get=data.read_import), name="import"),
    path(f"{P}imports/<int:pk>/cancel/", endpoint(post=data.stop_import), name="cancel_import"),
]
