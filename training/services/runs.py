"""Queueing and cancelling runs. The row is the queue; claims.py is the trainer's side of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings as site
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop, ngettext
from pydantic import BaseModel

from rating.models import ModelVersion, Project, User, Webhook
from rating.services.audit import record_event
from rating.services.webhooks import announce
from training.models import DatasetSnapshot, Evaluation, TrainingRun, Trigger
from training.recipes.spec import RECIPES, REWARD_RECIPES, SpecError, parse_spec
from training.services.snapshots import freeze_snapshot
from training.services.storable import make_storable
from training.services.versions import newest_reward_version, user_model

State = TrainingRun.State
Purpose = TrainingRun.Purpose
ENDED_WITHOUT_RESULT = (State.FAILED, State.CANCELLED)
ACTIVE = (State.QUEUED, State.RUNNING)
MAX_STEPS_IN_PLAN = 20
# What the run directory's preparation fills in; everything else of a recipe's fields is a setting.
PREPARED_FIELDS = frozenset(
    {
        "version",
        "recipe",
        "data",
        "model",
        "models",
        "reward_model",
        "safety_model",
        "kept",
        "reference",
        "output",
    }
)
# In parts that are settings, the file that the preparation puts there.
PREPARED_IN_PARTS = {"probes": "prompts", "pretraining": "file"}


# How a run was cancelled, as its row keeps it.
CANCELLED = gettext_noop("Cancelled.")
CANCELLED_EARLY = gettext_noop("Cancelled before it started.")
CANCELLED_BY = gettext_noop("Cancelled by %(name)s before it started.")
AFTER_FAILED = gettext_noop("Run %(number)s (%(recipe)s), which this one follows, failed.")
AFTER_CANCELLED = gettext_noop("Run %(number)s (%(recipe)s), which this one follows, was cancelled.")
CANCELLATIONS = (CANCELLED, CANCELLED_EARLY, CANCELLED_BY, AFTER_FAILED, AFTER_CANCELLED)
FILLED_IN = gettext_noop("is filled in when the run is prepared; leave it out.")


class RunError(ValueError):
    """A run that cannot be queued. `problems` lists (dotted field path, message) as SpecError does."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__(
            "; ".join(f"{field}: {message}" if field else message for field, message in problems)
        )


def check_settings(recipe: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they are stored, when the recipe takes them.

    `probes` is given without its file of prompts, for example {"count": 4}, or null for none; `pretraining`
    likewise.

    Raises:
        RunError: names each bad field and says what would be right.
    """
    if not isinstance(settings, Mapping):
        wanted = gettext("must be an object with named fields, not %(type)s.")
        raise RunError([("settings", wanted % {"type": type(settings).__name__})])
    fixed = sorted(PREPARED_FIELDS & settings.keys())
    if fixed:
        raise RunError([(field, gettext(FILLED_IN)) for field in fixed])
    if make_storable(dict(settings)) != settings:
        refused = gettext("hold a NUL or half a character, which cannot be stored; remove it.")
        raise RunError([("settings", refused)])
    try:
        parse_spec(complete_spec(recipe, settings))
    except SpecError as error:
        raise RunError(error.problems) from error
    return dict(settings)


def complete_spec(recipe: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with every prepared field at a placeholder, to be validated before anything is stored."""
    spec: dict[str, Any] = {"threads": site.TRAINING_THREADS, **settings, "recipe": recipe}
    fields = RECIPES[recipe].model_fields if isinstance(recipe, str) and recipe in RECIPES else {}
    placeholders: dict[str, Any] = {
        "data": {"prompts": "data/prompts.jsonl"}
        if recipe == "sample"
        else {"train": "data/train.jsonl", "eval": "data/eval.jsonl"},
        "model": "models/policy",
        "models": {"policy": "models/policy"},
        "reward_model": "models/reward",
    }
    spec |= {name: value for name, value in placeholders.items() if name in fields}
    for name, file in PREPARED_IN_PARTS.items():
        part = spec.get(name)
        if isinstance(part, Mapping):
            if file in part:
                raise RunError([(f"{name}.{file}", gettext(FILLED_IN))])
            spec[name] = {file: f"data/{name}.jsonl", **part}
    return spec


def settable_fields(recipe: str) -> list[str]:
    """Names of the recipe's fields that may be set, in the order of the specification.

    Raises:
        RunError: there is no such recipe.
    """
    if recipe not in RECIPES:
        unknown = gettext("%(recipe)s is unknown; it must be one of %(known)s.")
        raise RunError([("recipe", unknown % {"recipe": repr(recipe), "known": ", ".join(RECIPES)})])
    return [name for name in RECIPES[recipe].model_fields if name not in PREPARED_FIELDS]


def settable_part_fields(name: str, part: type[BaseModel]) -> list[str]:
    """Names of the fields inside a part, such as `lora` or `probes`, that may be set."""
    return [field for field in part.model_fields if field != PREPARED_IN_PARTS.get(name)]


def queue_run(
    project: Project,
    recipe: str,
    settings: Mapping[str, Any],
    *,
    purpose: TrainingRun.Purpose = Purpose.TRAIN,
    snapshot: DatasetSnapshot | None = None,
    policy: ModelVersion | None = None,
    after: TrainingRun | None = None,
    trigger: Trigger | None = None,
    user: User | None = None,
) -> TrainingRun:
    """Put a run in the queue; nothing is stored unless all of it can be taken.

    `policy` is the version that is trained or sampled: the user model unless told, or what an earlier run of
    the chain `after` makes. A run that trains needs a snapshot.

    Raises:
        RunError: names each bad field and says what would be right.
    """
    checked = check_settings(recipe, settings)
    policy = policy or user_model(project)
    check_parts(project, recipe, purpose, snapshot, policy, after)
    if needs_reward_model(recipe) and not has_reward_model(project, after):
        raise RunError([("reward_model", gettext(NO_REWARD_MODEL) % {"recipe": recipe})])
    with transaction.atomic():
        run = TrainingRun.objects.create(
            project=project,
            number=next_run_number(project),
            recipe=recipe,
            settings=checked,
            purpose=purpose,
            snapshot=snapshot,
            policy=policy,
            after=after,
            trigger=trigger,
            created_by=user,
        )
        record_event("run.queued", project, run.number, recipe=recipe, purpose=str(purpose))
        return run


NO_REWARD_MODEL = gettext_noop(
    "%(recipe)s needs a reward model: run the recipe `reward` first, or put it before %(recipe)s in the plan."
)
NO_POLICY = gettext_noop("The project has no user model yet: add a base model and promote it first.")


def check_parts(
    project: Project,
    recipe: str,
    purpose: TrainingRun.Purpose,
    snapshot: DatasetSnapshot | None,
    policy: ModelVersion | None,
    after: TrainingRun | None,
) -> None:
    """Refuse parts that are missing or of another project.

    Raises:
        RunError: names the part.
    """
    problems: list[tuple[str, str]] = []
    if policy is None:
        problems.append(("policy", gettext(NO_POLICY)))
    elif policy.project_id != project.pk:
        problems.append(("policy", gettext("is a model version of another project.")))
    elif policy.kind != ModelVersion.Kind.POLICY:
        refused = gettext("%(name)s is a reward model; name a version of kind policy.")
        problems.append(("policy", refused % {"name": policy.name}))
    if snapshot is None and purpose == Purpose.TRAIN:
        problems.append(("snapshot", gettext("is required: freeze a snapshot of the judgments first.")))
    if snapshot is not None and snapshot.project_id != project.pk:
        problems.append(("snapshot", gettext("is a snapshot of another project.")))
    if after is not None and after.project_id != project.pk:
        problems.append(("after", gettext("is a run of another project.")))
    if purpose != Purpose.TRAIN and recipe != "sample":
        problems.append(
            ("recipe", gettext("%(recipe)s writes no responses; use sample.") % {"recipe": recipe})
        )
    if problems:
        raise RunError(problems)


def chain_of(run: TrainingRun | None) -> list[TrainingRun]:
    """The run and those that it follows, latest first; chains are as short as plans."""
    chain: list[TrainingRun] = []
    while run is not None and len(chain) <= MAX_STEPS_IN_PLAN:
        chain.append(run)
        run = run.after
    return chain


def needs_reward_model(recipe: str) -> bool:
    """Whether the recipe cannot do without a reward model."""
    field = RECIPES[recipe].model_fields.get("reward_model")
    return field is not None and field.is_required()


def has_reward_model(project: Project, after: TrainingRun | None) -> bool:
    """Whether a reward model is there or is being made by the chain."""
    return (
        any(run.recipe in REWARD_RECIPES for run in chain_of(after))
        or newest_reward_version(project) is not None
    )


def lock_project(project: Project) -> None:
    """Keep other transactions that lock the project waiting until this one ends."""
    # no_key: raters add rows that refer to the project, and they must not wait for this lock.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def next_run_number(project: Project) -> int:
    """The number for a new run. Call it in a transaction: the project stays locked until its end."""
    lock_project(project)
    return (TrainingRun.objects.filter(project=project).aggregate(last=Max("number"))["last"] or 0) + 1


def check_plan(project: Project, plan: object) -> list[dict[str, Any]]:
    """The plan as it is stored, [{"recipe": name, "settings": {...}}, ...], when all its steps can be queued.

    Raises:
        RunError: paths such as `plan[1].learning_rate` name the step and the field.
    """
    if not isinstance(plan, Sequence) or isinstance(plan, str) or not plan:
        wanted = gettext("must be a list of steps, for example %(example)s.")
        raise RunError([("plan", wanted % {"example": '[{"recipe": "reward", "settings": {}}]'})])
    if len(plan) > MAX_STEPS_IN_PLAN:
        refused = ngettext(
            "has %(count)s step; at most %(most)s are taken.",
            "has %(count)s steps; at most %(most)s are taken.",
            len(plan),
        )
        raise RunError([("plan", refused % {"count": len(plan), "most": MAX_STEPS_IN_PLAN})])
    problems: list[tuple[str, str]] = []
    steps: list[dict[str, Any]] = []
    reward_made = newest_reward_version(project) is not None
    for index, step in enumerate(plan):
        where = f"plan[{index}]"
        if (
            not isinstance(step, Mapping)
            or not isinstance(step.get("recipe"), str)
            or step.keys() - STEP_KEYS
        ):
            wanted = gettext("must be %(shape)s and nothing else.")
            problems.append((where, wanted % {"shape": '{"recipe": name, "settings": {...}}'}))
            continue
        try:
            settings = check_settings(step["recipe"], step.get("settings", {}))
        except RunError as error:
            problems += [(f"{where}.{field}", message) for field, message in error.problems]
            continue
        if needs_reward_model(step["recipe"]) and not reward_made:
            message = gettext(NO_REWARD_MODEL) % {"recipe": step["recipe"]}
            problems.append((f"{where}.reward_model", message))
        reward_made = reward_made or step["recipe"] in REWARD_RECIPES
        steps.append({"recipe": step["recipe"], "settings": settings})
    if problems:
        raise RunError(problems)
    return steps


STEP_KEYS = {"recipe", "settings"}


def queue_plan(
    project: Project,
    plan: Sequence[Mapping[str, Any]],
    *,
    trigger: Trigger | None = None,
    user: User | None = None,
) -> list[TrainingRun]:
    """Freeze one snapshot and queue the plan's steps on it, each after the one before it.

    Raises:
        RunError: names the step and the field.
        SnapshotError: there is nothing to freeze.
    """
    steps = check_plan(project, plan)
    policy = user_model(project)
    if policy is None:
        raise RunError([("policy", gettext(NO_POLICY))])
    snapshot = freeze_snapshot(project, user=user)
    return queue_steps(project, steps, snapshot, policy=policy, trigger=trigger, user=user)


@transaction.atomic
def queue_steps(
    project: Project,
    steps: Sequence[Mapping[str, Any]],
    snapshot: DatasetSnapshot,
    *,
    policy: ModelVersion,
    trigger: Trigger | None = None,
    user: User | None = None,
) -> list[TrainingRun]:
    """Queue checked steps on one snapshot, each after the one before it."""
    runs: list[TrainingRun] = []
    for step in steps:
        runs.append(
            queue_run(
                project,
                step["recipe"],
                step["settings"],
                snapshot=snapshot,
                policy=policy,
                after=runs[-1] if runs else None,
                trigger=trigger,
                user=user,
            )
        )
    return runs


@transaction.atomic
def request_cancel(run: TrainingRun, user: User | None) -> TrainingRun:
    """Cancel a queued run at once; ask the trainer to stop a running one; leave one that has ended alone.

    Returns the run as it is now. Runs that follow a cancelled one are cancelled with it.
    """
    now = timezone.now()
    row = TrainingRun.objects.filter(pk=run.pk)
    cancelled = row.filter(state=State.QUEUED).update(
        state=State.CANCELLED,
        cancel_requested_at=now,
        ended_at=now,
        error_message=CANCELLED_BY % {"name": user.get_username()} if user else CANCELLED_EARLY,
    )
    if cancelled:
        announce_end(run, State.CANCELLED)
        cancel_followers()
        fail_evaluations()
    else:
        cancelled = row.filter(state=State.RUNNING, cancel_requested_at=None).update(cancel_requested_at=now)
    if cancelled:
        record_event("run.cancelled", run.project, run.number)
    run.refresh_from_db()
    return run


def announce_end(run: TrainingRun, state: TrainingRun.State) -> None:
    """Tell the project's webhooks that the run has ended; call it in the transaction in which it does."""
    told = {"number": run.number, "recipe": run.recipe, "purpose": run.purpose, "state": state.value}
    announce(run.project, Webhook.Event.RUN_ENDED, told)


def fail_evaluations() -> int:
    """Evaluations whose responses will never be written become failed; returns how many."""
    return Evaluation.objects.filter(
        state=Evaluation.State.SAMPLING, sampling_run__state__in=ENDED_WITHOUT_RESULT
    ).update(state=Evaluation.State.FAILED, closed_at=timezone.now())


def cancel_followers() -> int:
    """Cancel queued runs whose predecessor failed or was cancelled, and those after them; count them."""
    count = 0
    while waiting := list(
        TrainingRun.objects.filter(state=State.QUEUED, after__state__in=ENDED_WITHOUT_RESULT).select_related(
            "after", "project"
        )
    ):
        for run in waiting:
            assert run.after is not None
            why = AFTER_FAILED if run.after.state == State.FAILED else AFTER_CANCELLED
            changed = TrainingRun.objects.filter(pk=run.pk, state=State.QUEUED).update(
                state=State.CANCELLED,
                ended_at=timezone.now(),
                error_message=why % {"number": run.after.number, "recipe": run.after.recipe},
            )
            count += changed
            if changed:
                announce_end(run, State.CANCELLED)
    return count
