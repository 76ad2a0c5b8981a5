"""The addresses of the training rooms."""

from django.urls import path

from training.views import data, evaluations, overview, runs, triggers, versions

app_name = "training"
P = "projects/<slug:slug>/"
urlpatterns = [
    path(f"{P}training/", overview.overview, name="overview"),
    path(f"{P}runs/", overview.runs, name="runs"),
    path(f"{P}runs/new/", runs.new_run, name="new_run"),
    path(f"{P}runs/<int:number>/", runs.run, name="run"),
    path(f"{P}runs/<int:number>/progress/", runs.run_progress, name="run_progress"),
    path(f"{P}runs/<int:number>/cancel/", runs.cancel_run, name="cancel_run"),
    path(f"{P}runs/<int:number>/log/", runs.run_log, name="run_log"),
    path(f"{P}versions/", versions.versions, name="versions"),
    path(f"{P}versions/add/", versions.add_version, name="add_version"),
    path(f"{P}versions/<int:pk>/promote/", versions.promote, name="promote"),
    path(f"{P}versions/<int:pk>/evaluate/", versions.start_comparison, name="start_evaluation"),
    path(f"{P}versions/<int:pk>/responses/", versions.write_responses, name="write_responses"),
    path(f"{P}promotions/<int:pk>/undo/", versions.undo, name="undo_promotion"),
    path(f"{P}evaluations/<int:number>/", evaluations.evaluation, name="evaluation"),
    path(f"{P}evaluations/<int:number>/close/", evaluations.close, name="close_evaluation"),
    path(f"{P}triggers/new/", triggers.new_trigger, name="new_trigger"),
    path(f"{P}triggers/<int:pk>/", triggers.edit_trigger, name="edit_trigger"),
    path(f"{P}snapshots/", data.snapshots, name="snapshots"),
    path(f"{P}snapshots/new/", data.new_snapshot, name="new_snapshot"),
    path(f"{P}snapshots/freeze/", data.freeze_snapshot, name="freeze_snapshot"),
    path(f"{P}snapshots/<int:number>/", data.snapshot, name="snapshot"),
    path(f"{P}snapshots/<int:number>/without/", data.freeze_without, name="freeze_without"),
    path(f"{P}snapshots/<int:number>/<str:name>", data.download_snapshot_file, name="download_snapshot_file"),
    path(f"{P}export/", data.export, name="export"),
]
