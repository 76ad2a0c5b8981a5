"""The addresses of the training rooms' API."""

from django.urls import path

from rating.api.operations import endpoint
from training.api.views import runs, snapshots, versions

app_name = "training_api"
P = "projects/<slug:slug>/"
S = f"{P}snapshots/<int:number>/"
urlpatterns = [
    path(
        f"{P}snapshots/",
        endpoint(get=snapshots.list_snapshots, post=snapshots.make_snapshot),
        name="snapshots",
    ),
    path(S, endpoint(get=snapshots.read_snapshot), name="snapshot"),
    path(f"{S}card/", endpoint(get=snapshots.read_card), name="card"),
    path(f"{S}manifest/", endpoint(get=snapshots.read_manifest), name="manifest"),
    path(f"{S}difference/", endpoint(get=snapshots.read_difference), name="difference"),
    path(f"{S}download/", endpoint(get=snapshots.download_snapshot), name="download"),
    path(f"{S}files/<str:name>/", endpoint(get=snapshots.download_file), name="file"),
    path(f"{P}export/", endpoint(get=snapshots.download_export), name="export"),
    path(f"{P}runs/", endpoint(get=runs.list_runs, post=runs.make_run), name="runs"),
    path(f"{P}runs/<int:number>/", endpoint(get=runs.read_run), name="run"),
    path(f"{P}runs/<int:number>/events/", endpoint(get=runs.list_events), name="events"),
    path(f"{P}runs/<int:number>/metrics/", endpoint(get=runs.read_metrics), name="metrics"),
    path(f"{P}runs/<int:number>/cancel/", endpoint(post=runs.cancel_run), name="cancel_run"),
    path(f"{P}triggers/", endpoint(get=runs.list_triggers, post=runs.make_trigger), name="triggers"),
    path(
        f"{P}triggers/<int:pk>/",
        endpoint(get=runs.read_trigger, put=runs.change_trigger, delete=runs.drop_trigger),
        name="trigger",
    ),
    path(f"{P}versions/", endpoint(get=versions.list_versions, post=versions.make_version), name="versions"),
    path(f"{P}versions/<int:pk>/", endpoint(get=versions.read_version), name="version"),
    path(f"{P}user-model/", endpoint(get=versions.read_user_model), name="user_model"),
    path(
        f"{P}evaluations/",
        endpoint(get=versions.list_evaluations, post=versions.make_evaluation),
        name="evaluations",
    ),
    path(f"{P}evaluations/<int:number>/", endpoint(get=versions.read_evaluation), name="evaluation"),
    path(
        f"{P}evaluations/<int:number>/close/",
        endpoint(post=versions.end_evaluation),
        name="close_evaluation",
    ),
    path(
        f"{P}promotions/",
        endpoint(get=versions.list_promotions, post=versions.make_promotion),
        name="promotions",
    ),
    path(f"{P}promotions/<int:pk>/undo/", endpoint(post=versions.make_undoing), name="undo_promotion"),
]
