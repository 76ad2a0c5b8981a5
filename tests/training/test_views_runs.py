"""The page of a run in every state, starting one, cancelling one."""

import json
import struct
from pathlib import Path

import pytest
from django.urls import reverse

from tests.factories import make_model_version
from tests.training.rows import make_curve, make_evaluation, make_event, make_rival, make_run, seen_in
from training.explanations import EXPLANATIONS
from training.models import DatasetSnapshot, TrainingRun, Trigger
from training.recipe_words import TRAINABLE
from training.recipes.spec import ERROR_CODES
from training.services.triggers import save_trigger
from training.settings_form import SettingsForm

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def page(client, run):
    response = client.get(reverse("training:run", args=[run.project.slug, run.number]))
    assert response.status_code == 200
    return response.content.decode()


def test_queued(operator_client, project):
    html = page(operator_client, make_run(project))
    assert "Queued" in html
    assert "It starts as soon as the trainer looks." in html
    assert "Cancel the run" in html
    assert 'hx-trigger="every 2s"' in html


def test_queued_behind_others(operator_client, project):
    first = make_run(project, "running")
    follower = make_run(project, after=first)
    assert "It starts when run 1 has succeeded." in page(operator_client, follower)
    assert "1 running and 1 queued before it." in page(operator_client, make_run(project))


def test_running(operator_client, project):
    run = make_run(project, "running", step=20, total_steps=100, attempt=2)
    make_curve(run, 20, loss=0.5, accuracy=0.6, **{"rewards/margins": 0.1, "logps/chosen": -3.0})
    html = page(operator_client, run)
    assert "Step 20 of 100" in html
    assert "about 1 min 20 s left" in html
    assert "attempt 2" in html
    for title in ("Loss", "Accuracy", "Reward margin", "logps/chosen"):
        assert f"<figcaption>{title}</figcaption>" in html
    assert 'hx-swap="outerMorph"' in html


def test_running_that_is_asked_to_stop(operator_client, project):
    run = make_run(project, "running", cancel_requested_at="2026-01-01T00:00Z")
    html = page(operator_client, run)
    assert "Stopping" in html
    assert "Cancel the run" not in html


def test_succeeded(operator_client, project, present, snapshot):
    result = {
        "environment": {"platform": "Linux", "threads": 2},
        "dataset": {"data/train.jsonl": "f" * 64},
        "metrics": {"eval/accuracy": 0.75},
    }
    run = make_run(
        project,
        "succeeded",
        policy=present,
        snapshot=snapshot,
        settings={"beta": 0.05},
        result=result,
        step=3,
    )
    run.model_version = make_rival(project, "policy-1", parent=present)
    run.save()
    make_event(run, "started", device="cpu", versions={"torch": "2.13"}, parameters={"trained": 1234})
    make_event(
        run,
        "evaluation",
        3,
        values={"accuracy": 0.75, "accuracy_low": 0.6, "accuracy_high": 0.86, "length_accuracy": 0.55},
    )
    make_event(run, "warning", message="3 pairs were left out")
    html = page(operator_client, run)
    assert "policy-1" in html
    assert "75.0%" in html
    assert "95% interval 60.0% to 86.0%" in html
    assert "55.0%" in html
    assert "<strong>0.05</strong>" in html
    assert "(default 0.1)" in html
    assert "2.13" in html
    assert "3 pairs were left out" in html
    assert "python -m training.recipes.run again/spec.json" in html
    assert "preference.train.jsonl" in html
    assert "hx-trigger" not in html
    assert "Cancel the run" not in html


@pytest.mark.parametrize("code", [*EXPLANATIONS, "something_new"])
def test_failed_says_what_to_do(operator_client, project, code):
    run = make_run(project, "failed", error_code=code, error_message=HOSTILE)
    html = page(operator_client, run)
    assert f"<code>{code}</code>" in html
    assert (
        EXPLANATIONS[code].title in html.replace("&#x27;", "'")
        if code in EXPLANATIONS
        else "log say more" in html
    )
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_the_evaluation_of_what_it_made_is_linked(operator_client, project, present):
    run = make_run(project, "succeeded", policy=present)
    run.model_version = make_rival(project, "policy-1", parent=present)
    run.save()
    assert "Compare it blind" in page(operator_client, run)
    evaluation = make_evaluation(project, run.model_version, present)
    evaluation.sampling_run = make_run(project, "succeeded", recipe="sample", purpose="evaluate")
    evaluation.save()
    link = reverse("training:evaluation", args=[project.slug, evaluation.number])
    assert link in page(operator_client, run)
    assert link in page(operator_client, evaluation.sampling_run)


def test_every_error_code_is_explained():
    assert set(ERROR_CODES) | {"lost"} <= set(EXPLANATIONS)


def test_cancelled(operator_client, project):
    run = make_run(project, "cancelled", error_message="Cancelled by operator before it started.")
    html = page(operator_client, run)
    assert "Cancelled by operator before it started." in html
    assert "hx-trigger" not in html


def test_a_run_of_nothing_that_a_trigger_left_behind(operator_client, project):
    run = make_run(
        project, "failed", recipe="", attempt=0, started_at=None, error_message="nothing to freeze"
    )
    assert "nothing to freeze" in page(operator_client, run)


def test_samples_and_log_are_shown_as_text(operator_client, project):
    run = make_run(project, "running")
    prompt = [{"role": "user", "content": f"Why? {HOSTILE}"}]
    make_event(run, "samples", 0, phase="before", rows=[{"prompt": prompt, "response": f"Curt {HOSTILE}"}])
    make_event(run, "samples", 9, phase="after", rows=[{"prompt": prompt, "response": "**Warm** answer"}])
    run.directory.mkdir(parents=True)
    (run.directory / "log.txt").write_bytes(f"line {HOSTILE}\n".encode() * 300 + b"\xff\x00 last line\n")
    html = page(operator_client, run)
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "<strong>Warm</strong> answer" in html
    assert html.count("line &lt;script&gt;") == 199
    assert "last line" in html


def test_a_later_attempt_replaces_the_steps_it_repeats(operator_client, project):
    run = make_run(project, "running", attempt=1)
    make_curve(run, 10, loss=1.0)
    run.attempt = 2
    run.save()
    make_event(run, "metrics", 6, values={"loss": 0.25})
    response = operator_client.get(reverse("training:run", args=[project.slug, run.number]))
    rows = response.context["charts"][0].rows
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1] == (6, ["0.25"])


def test_queries_do_not_grow_with_the_events(
    operator_client, project, django_assert_num_queries, django_assert_max_num_queries
):
    run = make_run(project, "running")
    make_curve(run, 1)
    path = reverse("training:run", args=[project.slug, run.number])
    with django_assert_max_num_queries(25) as first:
        operator_client.get(path)
    run.events.all().delete()
    make_curve(run, 3)
    with django_assert_num_queries(len(first)):
        operator_client.get(path)


def test_a_long_run_stays_a_small_page(operator_client, project):
    run = make_run(project, "running", total_steps=5000)
    make_curve(run, 5000)
    assert len(page(operator_client, run)) < 60_000


def test_the_log_is_downloaded_as_plain_text(operator_client, project):
    run = make_run(project, "succeeded")
    path = reverse("training:run_log", args=[project.slug, run.number])
    assert operator_client.get(path).status_code == 404
    run.directory.mkdir(parents=True)
    (run.directory / "log.txt").write_text(HOSTILE)
    response = operator_client.get(path)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert b"".join(response.streaming_content) == HOSTILE.encode()


def test_polling_ends_with_one_refresh(operator_client, project):
    run = make_run(project, "running", step=1, total_steps=2)
    path = reverse("training:run_progress", args=[project.slug, run.number])
    headers = {"HX-Request": "true"}
    first = operator_client.get(path, headers=headers)
    assert b"Step 1 of 2" in first.content
    assert b"<html" not in first.content
    seen = seen_in(first.content)
    assert operator_client.get(f"{path}?seen={seen}", headers=headers).status_code == 204
    TrainingRun.objects.filter(pk=run.pk).update(state="succeeded")
    assert operator_client.get(f"{path}?seen={seen}", headers=headers).headers["HX-Refresh"] == "true"
    assert operator_client.get(path).status_code == 302


def test_cancel(operator_client, project, operator):
    queued, running = make_run(project), make_run(project, "running")
    ended = make_run(project, "succeeded")
    for run in (queued, running, ended):
        operator_client.post(reverse("training:cancel_run", args=[project.slug, run.number]))
        run.refresh_from_db()
    assert (queued.state, running.state, ended.state) == ("cancelled", "running", "succeeded")
    assert running.cancel_requested_at is not None
    assert ended.cancel_requested_at is None


# Starting a run


def form_data(recipe="dpo", **changes):
    """What the untouched form posts, with changes."""
    form = SettingsForm(recipe)
    data = {}
    for bound in form:
        value = bound.value()
        if value is True:
            data[bound.html_name] = "on"
        elif value not in (False, None):
            data[bound.html_name] = str(value)
    return {"recipe": recipe, **data, **{f"s-{name}": value for name, value in changes.items()}}


@pytest.fixture
def new_run(project):
    return reverse("training:new_run", args=[project.slug])


@pytest.mark.parametrize("recipe", TRAINABLE)
def test_untouched_form_queues_a_run_with_the_defaults(
    operator_client, new_run, project, present, snapshot, recipe, operator, reward_model
):
    data = form_data(recipe) | {"snapshot": snapshot.pk, "policy": present.pk}
    response = operator_client.post(new_run, data)
    run = TrainingRun.objects.get()
    assert response.headers["Location"] == reverse("training:run", args=[project.slug, run.number])
    assert (run.recipe, run.settings, run.snapshot, run.policy) == (recipe, {}, snapshot, present)
    assert run.created_by == operator


def test_only_what_differs_is_stored_typed(operator_client, new_run, present, snapshot):
    changes = {"learning_rate": "1e-4", "max_steps": "30", "train.r": "8", "train.targets": "q_proj, v_proj"}
    data = form_data("dpo", **changes) | {"snapshot": snapshot.pk, "policy": present.pk}
    operator_client.post(new_run, data)
    train = {"kind": "lora", "variant": "plain", "save": "merged"}
    train |= {"r": 8, "alpha": 32, "dropout": 0, "targets": ["q_proj", "v_proj"]}
    assert TrainingRun.objects.get().settings == {"train": train, "learning_rate": 1e-4, "max_steps": 30}


def test_parts_are_switched_on(operator_client, new_run, present, snapshot):
    data = form_data("sft", probes="on") | {"snapshot": snapshot.pk, "policy": present.pk}
    operator_client.post(new_run, data)
    probes = {"count": 4, "max_new_tokens": 64, "temperature": 0.7}
    assert TrainingRun.objects.get().settings == {"probes": probes}


@pytest.mark.parametrize(
    ("changes", "train"),
    [
        ({"kind": "all", "r": ""}, {"kind": "all"}),
        ({"kind": "head", "tokens": "0"}, {"kind": "head"}),
        ({"kind": "last_layers", "layers": "3"}, {"kind": "last_layers", "layers": 3}),
        ({"kind": "prompt", "tokens": "8"}, {"kind": "prompt", "tokens": 8, "start": ""}),
        ({"kind": "prompt", "start": "Be kind"}, {"kind": "prompt", "tokens": 20, "start": "Be kind"}),
        ({"kind": "prefix"}, {"kind": "prefix", "tokens": 20}),
        (
            {"kind": "qlora", "alpha": "8"},
            {"kind": "qlora", "r": 16, "alpha": 8, "dropout": 0, "targets": "all-linear"},
        ),
        (
            {"variant": "dora", "save": "adapter"},
            {"kind": "lora", "variant": "dora", "save": "adapter"}
            | {"r": 16, "alpha": 32, "dropout": 0, "targets": "all-linear"},
        ),
    ],
)
def test_what_is_trained_is_stored_and_comes_back(
    operator_client, new_run, present, snapshot, changes, train
):
    """Only the fields of the chosen kind count; a clone of the run shows and stores the same."""
    changes = {f"train.{name}": value for name, value in changes.items()}
    data = form_data("sft", **changes) | {"snapshot": snapshot.pk, "policy": present.pk}
    operator_client.post(new_run, data)
    run = TrainingRun.objects.get()
    assert run.settings == {"train": train}
    start = operator_client.get(f"{new_run}?from={run.number}").context["start"]
    assert start.settings_form["train.kind"].value() == train["kind"]
    fields = start.settings_form
    again = {field.html_name: field.value() for field in fields if field.value() not in (False, None)}
    operator_client.post(new_run, data | again)
    assert TrainingRun.objects.last().settings == {"train": train}


def test_a_run_of_the_first_releases_is_cloned(operator_client, new_run, project, present, snapshot):
    """They said `lora` where `train` is said now."""
    for lora, kind, rank in ((None, "all", "16"), ({"r": 4}, "lora", "4")):
        run = make_run(project, "failed", settings={"lora": lora}, snapshot=snapshot, policy=present)
        start = operator_client.get(f"{new_run}?from={run.number}").context["start"]
        assert start.settings_form["train.kind"].value() == kind
        assert start.settings_form["train.r"].value() == rank


@pytest.fixture
def reward_model(project):
    return make_model_version(project, name="scorer", kind="reward")


def test_rules_are_written_as_json_and_alarms_as_a_list(
    operator_client, new_run, present, snapshot, reward_model
):
    rules = [{"rule": "forbids", "pattern": "[a-z], no", "weight": 2.0}]
    changes = {"terms": json.dumps(rules), "stop_on": "", "pretraining": "on", "pretraining.weight": "0.5"}
    data = form_data("ppo", **changes) | {"snapshot": snapshot.pk, "policy": present.pk}
    response = operator_client.post(new_run, data)
    run = TrainingRun.objects.get()
    assert run.settings == {
        "terms": rules,
        "stop_on": [],
        "pretraining": {"weight": 0.5, "batch_size": 8},
    }
    clone = operator_client.get(f"{new_run}?from={run.number}").context["start"].settings_form
    assert json.loads(clone["terms"].value()) == rules
    assert response.status_code == 302


@pytest.mark.parametrize("text", ["[{", '{"rule": 1}', '[{"rule": "contains"}]', '["a"]', "[]]"])
def test_rules_that_are_none_are_refused_at_their_field(
    operator_client, new_run, present, snapshot, reward_model, text
):
    data = form_data("ppo", terms=text) | {"snapshot": snapshot.pk, "policy": present.pk}
    response = operator_client.post(new_run, data)
    assert response.status_code == 422
    assert list(response.context["start"].settings_form.errors) == ["terms"]


def test_freeze_now(operator_client, new_run, present, snapshot, project):
    DatasetSnapshot.objects.all().delete()
    operator_client.post(new_run, form_data() | {"snapshot": "now", "policy": present.pk})
    assert TrainingRun.objects.get().snapshot == DatasetSnapshot.objects.get()


def test_nothing_to_freeze_is_said_at_the_field(operator_client, new_run, present):
    response = operator_client.post(new_run, form_data() | {"snapshot": "now", "policy": present.pk})
    assert response.status_code == 422
    assert "nothing to freeze" in str(response.context["start"].run_form.errors["snapshot"])
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(
    ("recipe", "field", "value"),
    [
        ("dpo", "learning_rate", "-1"),
        ("dpo", "learning_rate", "nan"),
        ("dpo", "learning_rate", ""),
        ("dpo", "epochs", "many"),
        ("dpo", "batch_size", "2.5"),
        ("dpo", "loss_type", "none"),
        ("dpo", "label_smoothing", "0.1"),
        ("dpo", "train.r", "0"),
        ("dpo", "train.targets", "lm_head"),
        ("dpo", "train.kind", "some"),
        ("ppo", "train.kind", "prompt"),
        ("dpo", "probes.count", "65"),
        ("reward", "margins", "huge"),
        ("kto", "batch_size", "1"),
        ("dpo", "agreement", "0.9"),
        ("simpo", "gamma_ratio", "-1"),
        ("reward", "heads", "a b"),
        ("reward_rating", "levels", "1"),
        ("ppo", "minibatch_size", "7"),
        ("sft", "threads", "0"),
    ],
)
def test_bad_values_are_refused_at_their_field(
    operator_client, new_run, present, snapshot, recipe, field, value
):
    changes = {field: value} | ({"probes": "on"} if field.startswith("probes") else {})
    data = form_data(recipe, **changes) | {"snapshot": snapshot.pk, "policy": present.pk}
    response = operator_client.post(new_run, data)
    assert response.status_code == 422
    assert list(response.context["start"].settings_form.errors) == [field]
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(("field", "value"), [("snapshot", "999"), ("policy", "999"), ("policy", "")])
def test_bad_parts_are_refused_at_their_field(operator_client, new_run, present, snapshot, field, value):
    data = form_data() | {"snapshot": snapshot.pk, "policy": present.pk, field: value}
    response = operator_client.post(new_run, data)
    assert response.status_code == 422
    assert list(response.context["start"].run_form.errors) == [field]


def test_ppo_without_a_reward_model_is_refused_before_anything_is_frozen(
    operator_client, new_run, present, snapshot
):
    DatasetSnapshot.objects.all().delete()
    response = operator_client.post(new_run, form_data("ppo") | {"snapshot": "now", "policy": present.pk})
    assert response.status_code == 422
    assert "needs a reward model" in response.content.decode()
    assert not DatasetSnapshot.objects.exists()


def test_a_clone_starts_from_the_runs_settings(operator_client, new_run, project, present, snapshot):
    settings = {"learning_rate": 0.002, "train": {"kind": "all"}, "loss_type": "ipo"}
    run = make_run(project, "failed", settings=settings, snapshot=snapshot, policy=present)
    start = operator_client.get(f"{new_run}?from={run.number}").context["start"]
    assert start.recipe == "dpo"
    assert start.settings_form["learning_rate"].value() == "0.002"
    assert start.settings_form["train.kind"].value() == "all"
    assert "loss_type" in [field.name for field in start.settings_form.common]
    assert start.run_form["snapshot"].value() == str(snapshot.pk)


def test_the_triggers_plan_prefills_its_recipe(operator_client, new_run, project, present):
    save_trigger(
        project, name="t", every_judgments=9, plan=[{"recipe": "reward", "settings": {"epochs": 7.0}}]
    )
    start = operator_client.get(f"{new_run}?recipe=reward").context["start"]
    assert start.settings_form["epochs"].value() == "7"
    start = operator_client.get(f"{new_run}?recipe=dpo").context["start"]
    assert start.settings_form["epochs"].value() == "1"


@pytest.mark.parametrize("query", ["?recipe=sample", "?recipe=x", "?from=77", "?from=x", "?from=²", ""])
def test_odd_addresses_show_the_plain_form(operator_client, new_run, query):
    assert operator_client.get(f"{new_run}{query}").context["start"].recipe == "reward"


@pytest.mark.parametrize("plan", [{"a": 1}, ["dpo"], [{"recipe": "dpo", "settings": "x"}], 7, None])
def test_a_broken_plan_prefills_nothing(operator_client, new_run, project, present, plan):
    Trigger.objects.create(project=project, name="broken", every_judgments=5, plan=plan or [])
    start = operator_client.get(f"{new_run}?recipe=dpo").context["start"]
    assert start.settings_form["epochs"].value() == "1"
    assert operator_client.get(reverse("training:overview", args=[project.slug])).status_code == 200


@pytest.mark.parametrize("name", ["run", "run_log", "run_progress", "evaluation"])
def test_a_number_that_no_database_holds_is_not_found(operator_client, project, name):
    path = reverse(f"training:{name}", args=[project.slug, 10**30])
    assert operator_client.get(path).status_code == 404


def write_header(directory, rows: int) -> None:
    """A model of one layer of `rows` by 100,000: its configuration, and weights that are a header alone."""
    (directory / "config.json").write_text(json.dumps({"hidden_size": 8, "num_hidden_layers": 1}))
    entry = {"dtype": "BF16", "shape": [rows, 100_000], "data_offsets": [0, 0]}
    header = json.dumps({"model.layers.0.mlp.up_proj.weight": entry}).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def test_the_page_says_what_the_run_will_need(operator_client, new_run, present, snapshot):
    """From the model's headers; where there is no such file, it says nothing."""
    page = operator_client.get(new_run)
    assert page.context["start"].estimate is None
    write_header(Path(present.base), 10)
    page = operator_client.get(f"{new_run}?recipe=sft")
    need = page.context["start"].estimate
    assert (need.need.trained, need.lacks_memory) == (16 * 100_010, False)
    assert need.minutes is not None
    assert "the run needs about" in page.content.decode()
    assert "would be refused" not in page.content.decode()


def test_the_page_says_when_a_run_would_be_refused(operator_client, new_run, present, snapshot):
    write_header(Path(present.base), 100_000)
    data = form_data("sft", **{"train.kind": "all", "learning_rate": "0.1"})
    page = operator_client.post(new_run, data | {"snapshot": "999", "policy": present.pk})
    assert page.status_code == 422
    text = page.content.decode()
    assert page.context["start"].estimate.lacks_memory
    assert "more memory than this machine has free" in text
    assert "more disk than is free" in text
    assert operator_client.post(new_run, data | {"policy": "x\u0660"}).status_code == 422
