"""Starting a run by hand: the recipe, what it works on, and its settings, prefilled and checked."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict

from rating.models import ModelVersion, Project, User
from training.estimates import RunEstimate, estimate_run
from training.forms import FREEZE, RunForm
from training.models import DatasetSnapshot, TrainingRun, Trigger
from training.recipe_words import TRAINABLE, recipe_purpose, recipe_title
from training.services.runs import RunError, check_plan, queue_run
from training.services.snapshots import SnapshotError, freeze_snapshot
from training.services.versions import newest_reward_version, user_model
from training.settings_form import SettingsForm


class StartForm:
    """The two forms of the page, for the recipe of `?recipe=` or of the run to be cloned (`?from=`)."""

    def __init__(self, project: Project, query: QueryDict, data: QueryDict | None) -> None:
        self.project = project
        self.source = find_source(project, query.get("from", ""))
        asked = (data or query).get("recipe", "")
        self.recipe = asked if asked in TRAINABLE else self.source.recipe if self.source else TRAINABLE[0]
        self.run_form = RunForm(project, data, initial=self.initial_parts())
        self.settings_form = SettingsForm(self.recipe, data, settings=self.initial_settings())

    @property
    def recipes(self) -> list[tuple[str, str, str]]:
        """Name, title and purpose of each recipe that a person can start."""
        return [(name, recipe_title(name), recipe_purpose(name)) for name in TRAINABLE]

    @property
    def title(self) -> str:
        """The chosen recipe's title."""
        return recipe_title(self.recipe)

    def initial_parts(self) -> dict[str, Any]:
        """The cloned run's snapshot and policy; otherwise a new snapshot and the user model."""
        if self.source is not None:
            return {"snapshot": str(self.source.snapshot_id or FREEZE), "policy": self.source.policy_id}
        policy = user_model(self.project)
        return {"policy": policy.pk if policy else None}

    def initial_settings(self) -> dict[str, Any]:
        """The cloned run's settings, or those of the same recipe in a trigger's plan."""
        if self.source is not None and self.source.recipe == self.recipe:
            return dict(self.source.settings)
        for plan in Trigger.objects.filter(project=self.project).values_list("plan", flat=True):
            try:
                steps = check_plan(self.project, plan)
            except RunError:
                continue  # a plan that no longer fits is told when it fires
            for step in steps:
                if step["recipe"] == self.recipe:
                    return dict(step["settings"])
        return {}

    @property
    def estimate(self) -> RunEstimate | None:
        """What the run would need with what the page shows; None where that is not known or not valid."""
        settings: Any = self.initial_settings()
        policy, snapshot = self.run_form.initial.get("policy"), self.run_form.initial.get("snapshot")
        if self.settings_form.is_bound:
            if not self.settings_form.is_valid():
                return None
            settings = self.settings_form.settings
            policy, snapshot = self.run_form.data.get("policy"), self.run_form.data.get("snapshot")
        versions = ModelVersion.objects.filter(project=self.project, kind=ModelVersion.Kind.POLICY)
        chosen = versions.filter(pk=int(policy)).first() if policy and str(policy).isdecimal() else None
        newest = next(iter(self.run_form.snapshots.values()), None)  # the one that is frozen now is like it
        return estimate_run(
            self.recipe,
            settings,
            chosen,
            self.run_form.snapshots.get(str(snapshot), newest),
            newest_reward_version(self.project) if self.recipe == "ppo" else None,
        )

    def is_valid(self) -> bool:
        """Whether both forms are; both are checked, so that all errors are seen at once."""
        return self.run_form.is_valid() & self.settings_form.is_valid()

    def queue(self, user: User) -> TrainingRun | None:
        """Queue the run, freezing a snapshot if asked to; None when it was refused (see the errors)."""
        settings = self.settings_form.settings
        policy: ModelVersion = self.run_form.cleaned_data["policy"]
        snapshot: DatasetSnapshot | None = self.run_form.cleaned_data["snapshot"]
        try:
            # Before anything is frozen: a refused run should leave no snapshot behind.
            check_plan(self.project, [{"recipe": self.recipe, "settings": settings}])
            snapshot = snapshot or freeze_snapshot(self.project, user=user)
            return queue_run(self.project, self.recipe, settings, snapshot=snapshot, policy=policy, user=user)
        except SnapshotError as error:
            self.run_form.add_error("snapshot", str(error))
        except RunError as error:
            for path, message in error.problems:
                name = path.removeprefix("plan[0].")
                self.run_form.add_error(name if name in self.run_form.fields else None, message)
        return None


def find_source(project: Project, number: str) -> TrainingRun | None:
    """The run to be cloned, if there is one of that number that a person could have started."""
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        return None
    return TrainingRun.objects.filter(project=project, number=int(number), recipe__in=TRAINABLE).first()
