"""The addresses of the rating side."""

from django.urls import path

from rating.views.asking import asking, preview_asking
from rating.views.audit import audit
from rating.views.desk import answer, judge, release, revise, skip, undo
from rating.views.imports import import_file_page, import_page, refused_rows, start_import, stop_import
from rating.views.preferences import preferences
from rating.views.projects import (
    drop_member,
    members,
    new_guidelines,
    new_project,
    project_page,
    projects,
    settings,
)
from rating.views.tokens import end_token, tokens
from rating.views.webhooks import drop_webhook, test_webhook, webhooks

app_name = "rating"
urlpatterns = [
    path("", projects, name="projects"),
    path("preferences/", preferences, name="preferences"),
    path("tokens/", tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", end_token, name="revoke_token"),
    path("projects/new/", new_project, name="create_project"),
    path("projects/<slug:slug>/", project_page, name="project"),
    path("projects/<slug:slug>/settings/", settings, name="settings"),
    path("projects/<slug:slug>/settings/guidelines/", new_guidelines, name="publish_guidelines"),
    path("projects/<slug:slug>/asking/", asking, name="asking"),
    path("projects/<slug:slug>/asking/preview/", preview_asking, name="preview_asking"),
    path("projects/<slug:slug>/members/", members, name="members"),
    path("projects/<slug:slug>/members/<int:pk>/remove/", drop_member, name="remove_member"),
    path("projects/<slug:slug>/audit/", audit, name="audit"),
    path("projects/<slug:slug>/webhooks/", webhooks, name="webhooks"),
    path("projects/<slug:slug>/webhooks/<int:pk>/remove/", drop_webhook, name="remove_webhook"),
    path("projects/<slug:slug>/webhooks/<int:pk>/test/", test_webhook, name="test_webhook"),
    path("projects/<slug:slug>/import/", import_page, name="import"),
    path("projects/<slug:slug>/import/<int:pk>/", import_file_page, name="import_file"),
    path("projects/<slug:slug>/import/<int:pk>/start/", start_import, name="start_import"),
    path("projects/<slug:slug>/import/<int:pk>/cancel/", stop_import, name="cancel_import"),
    path("projects/<slug:slug>/import/<int:pk>/refused/", refused_rows, name="refused_rows"),
    path("projects/<slug:slug>/rate/", judge, name="judge"),
    path("projects/<slug:slug>/rate/<uuid:assignment>/", answer, name="answer"),
    path("projects/<slug:slug>/rate/<uuid:assignment>/skip/", skip, name="skip"),
    path("projects/<slug:slug>/rate/<uuid:assignment>/revise/", revise, name="revise"),
    path("projects/<slug:slug>/rate/undo/", undo, name="undo"),
    path("projects/<slug:slug>/rate/release/", release, name="release"),
]
