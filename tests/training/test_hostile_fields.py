"""Every hostile text in every field of the training side, and in what a run's directory says; see the rating side's."""

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse

from rating.models import Completion, ModelVersion, Project, User
from tests.conftest import signed_in
from tests.factories import make_item, make_judgment, make_prompt, make_rater, make_user
from tests.hostile import RAW, UNSTORABLE, UNSTORED, faults_of, fit, get, post, share
from tests.training.rows import make_evaluation, make_rival, make_run
from training.models import RunEvent, Trigger
from training.query_form import QueryForm
from training.recipe_words import TRAINABLE
from training.recipes.spec import RECIPES
from training.services.encoding import FILE_KINDS
from training.services.events import store_new_events
from training.services.exports import EXPORT_FORMATS
from training.services.outcomes import settle_run
from training.services.promotions import undo_promotion
from training.services.queries import SnapshotQuery
from training.services.sampling import store_responses
from training.services.snapshots import DATA_FILES, freeze_snapshot

pytestmark = pytest.mark.django_db
TEXTS = list(RAW.values())
PLAN = json.dumps([{"recipe": "dpo", "settings": {}}])
Answers = Iterator[Any]
Scene = Callable[[dict[str, Client], Project, list[str]], Answers]
# `make test` sends every so many-th text in the scenes that take long; `make test-slow` sends them all.
SHARES = {
    "trigger": 4, "base_model": 5, "admin_version": 5, "promotion": 4, "new_run": 10, "query": 5,
    "run_directory": 2, "snapshot_query": 10, "snapshot_rows": 4,
}  # fmt: skip


def storable(texts: list[str]) -> list[str]:
    """Those that a column takes."""
    return [text for text in texts if not UNSTORABLE.search(text)]


def url(view: str, **more: object) -> str:
    return reverse(f"training:{view}", kwargs={"slug": "demo", **more})


@pytest.fixture
def clients(people: dict[str, User]) -> dict[str, Client]:
    """A browser for each persona and for a superuser, in which an error of the server is a 500."""
    everybody = people | {"root": make_user("root", is_staff=True, is_superuser=True)}
    found = {name: signed_in(user) for name, user in everybody.items()}
    for client in found.values():
        client.raise_request_exception = False
    return found


def odd_plans(text: str) -> list[str]:
    """The text wherever a plan may have one."""
    steps: list[Any] = [text, {text: text}, {"recipe": text}, {"recipe": "dpo", text: text, "settings": {}}]
    steps += [{"recipe": "dpo", "settings": {text: text}}, {"recipe": "dpo", "settings": {"loss_type": text}}]
    steps += [{"recipe": "dpo", "settings": {"lora": {"targets": [text]}, "probes": {text: text}}}]
    return [text, *(json.dumps([step]) for step in steps)]


def trigger(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    client, there = clients["operator"], url("new_trigger")
    for number, text in enumerate(texts):
        yield post(
            client, there, {"name": fit(text, 120), "enabled": "on", "every_judgments": 5, "plan": PLAN}
        )
        plans = odd_plans(text)
        odd = {
            "name": text,
            "every_judgments": text,
            "schedule": fit(text, 100),
            "plan": plans[number % len(plans)],
        }
        yield post(client, there, odd)
        for plan in plans if text in map(RAW.get, UNSTORED) else ():
            yield post(client, there, {"name": "x", "every_judgments": 5, "plan": plan})
    for plan in ("[" * 200_000, "[" * 90_000, '{"a":' * 800 + "1" + "}" * 800, '[{"recipe":"dpo","settings":{"seed":1e999}}]',
                 '[{"recipe":"dpo","settings":{"beta":NaN}}]', '[{"recipe":"dpo","settings":{"beta":Infinity}}]',
                 '[{"recipe":"dpo","settings":{"lora":' + "[" * 700 + "]" * 700 + "}}]",
                 '[{"recipe":"dpo","settings":{"seed":' + "9" * 4000 + "}}]"):  # fmt: skip
        yield post(client, there, {"name": "deep", "every_judgments": 5, "plan": plan})
    yield get(client, url("overview"))
    for one in Trigger.objects.all()[:20]:
        yield get(client, url("edit_trigger", pk=one.pk))


def base_model(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    client = clients["operator"]
    for text in texts:
        yield post(client, url("add_version"), {"name": fit(text, 120), "base": fit(text, 500)})
    for text in texts:
        yield post(client, url("add_version"), {"name": fit(text, 120), "base": "owner/name"})
    assert ModelVersion.objects.filter(base="owner/name").count() > len(texts) * 0.7
    yield get(client, url("versions"))


def admin_version(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    client, add = clients["root"], reverse("admin:rating_modelversion_add")
    for number, text in enumerate(texts):
        names = ("name", "base", "adapter", "system_prompt")
        fine = {name: fit(text, 60) for name in names} | {"kind": "policy", "project": project.pk}
        yield post(
            client, add, fine | {"name": f"{number} {fit(text, 60)}", "files": json.dumps({text: text})}
        )
        if number % 6 == 0:
            odd = dict.fromkeys((*names, "kind", "endpoint", "files"), text)
            yield post(client, add, odd | {"project": project.pk})
    assert ModelVersion.objects.exclude(adapter="").count() > len(texts) * 0.7
    for version, text in zip(ModelVersion.objects.all(), storable(texts), strict=False):
        hashes = dict.fromkeys(("tokenizer_hash", "chat_template_hash"), fit(text, 64))
        ModelVersion.objects.filter(pk=version.pk).update(files={fit(text, 200): text}, **hashes)
    yield get(clients["operator"], url("versions"))


def promotion(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    client, version = clients["operator"], make_rival(project)
    for text in texts:
        promoted = post(client, url("promote", pk=version.pk), {"reason": fit(text, 2000), "confirm": "on"})
        yield promoted
        last = project.promotions.first()
        if last is not None and last.undoes is None:
            yield post(client, url("undo_promotion", pk=last.pk), {"reason": fit(text, 2000)})
            if project.promotions.first() == last:
                undo_promotion(last, user=None)
    yield get(client, url("versions"))
    yield get(client, url("overview"))


def new_run(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    client = clients["operator"]
    for number, text in enumerate(texts):
        recipe = TRAINABLE[number % len(TRAINABLE)]
        names = [f"s-{name}" for name in RECIPES[recipe].model_fields]
        data = dict.fromkeys(names, text) | dict.fromkeys(
            ("s-lora.r", "s-lora.targets", "s-probes.count"), text
        )
        yield post(client, url("new_run"), data | {"recipe": recipe, "policy": text, "snapshot": text})
    pk = project.model_versions.first().pk
    for text in texts:
        yield post(client, url("start_evaluation", pk=pk), {"prompts": text}, headers={"HX-Request": "true"})
        yield post(client, url("write_responses", pk=pk), {"count": text})


def query(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    client = clients["operator"]
    for text in texts:
        yield get(client, url("runs"), {"page": text})
        yield get(
            client,
            url("overview"),
            {"seen": text},
            headers={"HX-Request": text[:20].encode(errors="replace").decode("latin-1")},
        )
    for text in texts[::6]:
        yield get(client, url("export"), {"format": text, "split": text})
        yield get(client, url("export"), {"format": "sft", "split": text})
        yield get(client, url("new_run"), {"from": text, "recipe": text})


def run_directory(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    """A run whose every line says such texts, in the places of the recipes and in odd ones."""
    run = make_run(project, "running", policy=project.model_versions.first(), lease_until="2100-01-01T00:00Z")
    run.directory.mkdir(parents=True)
    lines: list[Any] = []
    for text in texts:
        talk = [{"role": text, "content": text}]
        lines += [
            {"event": text, "step": text, "time": text},
            {"event": "warning", "message": text, text: text},
        ]
        lines += [
            {"event": "samples", "phase": text, "rows": [{"prompt": talk, "response": text}], "step": 1}
        ]
        lines += [
            {"event": "metrics", "step": 1, "values": {text: 1.5, "loss": text}},
            {"event": "started", "device": text},
        ]
    odd = [
        {"event": "metrics", "step": 2, "values": value}
        for value in (None, [1], "x", {"loss": None}, {"loss": [1]})
    ]
    odd += [{"event": "metrics", "step": 3, "values": {"loss": 10**400, "kl": -1e308, "reward": 1e308}}]
    odd += [
        {"event": "evaluation", "step": 2, "values": value}
        for value in (None, [1], {"accuracy": "x"}, {"loss": {}})
    ]
    odd += [
        {"event": "samples", "step": 2, "rows": value}
        for value in (None, {}, [1], [{}], [{"prompt": 5, "response": 7}])
    ]
    odd += [
        {"event": "samples", "rows": [{"prompt": [5, {"role": 1}], "response": ["x"]}]},
        {"event": "warning"},
    ]
    odd += [
        {"event": "started", "parameters": ["x"], "versions": "x"},
        {"event": "progress", "total_steps": "x"},
        [1],
        5,
    ]
    raw = [json.dumps(line) for line in (*lines, *odd)] + [
        '{"event": "metrics", "step": 4, "values": {"loss": 1e999}}'
    ]
    raw += [
        '{"event": "warning", "message": ' + "[" * depth + "]" * depth + "}"
        for depth in (400, 980, 5000, 100_000)
    ]
    (run.directory / "events.jsonl").write_text(
        "\n".join((*raw, *texts, "")), errors="surrogatepass", newline=""
    )
    (run.directory / "log.txt").write_text("\n".join(texts), errors="surrogatepass")
    while store_new_events(run, run.attempt):
        pass
    assert RunEvent.objects.filter(kind="warning", data__message=storable(texts)[0]).exists()
    yield get(clients["operator"], url("run", number=run.number))
    yield get(clients["operator"], url("run_progress", number=run.number), headers={"HX-Request": "true"})
    log = get(clients["operator"], url("run_log", number=run.number))
    assert log.headers["Content-Type"].startswith("text/plain")
    assert log.headers["Content-Disposition"].startswith("attachment")
    assert b"".join(log.streaming_content)
    yield get(clients["root"], reverse("admin:training_runevent_changelist"))
    yield from ended_runs(clients, project, texts)


def ended_runs(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    """Runs that end with such texts in result.json, a few in each."""
    results: list[Any] = []
    for place in range(0, len(texts), 8):
        few = texts[place : place + 8]
        versions = {text: text for text in few}
        figures = {"metrics": dict.fromkeys(few, 1.0), "dataset": versions}
        environment = {"platform": few[0], "threads": few[-1], "versions": versions}
        error = {"code": few[-1], "message": "".join(few)}
        results.append({"status": "failed", "error": error, "environment": environment, **figures})
    results += [{"status": "failed", "error": value} for value in ("x", None, [], {"code": 5, "message": {}})]
    results += [
        {"status": "failed", "metrics": value}
        for value in ([], "x", {"loss": None}, {"loss": "x"}, {"loss": 10**400})
    ]
    results += [{"status": "failed", "environment": value, "dataset": value} for value in ([], "x", 5)]
    results += [{"status": "succeeded", "kind": text, "model": text} for text in TEXTS[::30]]
    raw = [json.dumps(result) for result in results] + [
        '{"status": "failed", "metrics": {"loss": 1e999, "x": NaN}}'
    ]
    raw += ['{"status": ' + "[" * depth for depth in (900, 100_000)] + ["[" * 900 + "]" * 900, ""]
    for text in raw:
        run = make_run(project, "running", lease_until="2100-01-01T00:00Z")
        run.directory.mkdir(parents=True)
        (run.directory / "result.json").write_text(text)
        assert settle_run(run, run.attempt, 1), text[:200]
        run.refresh_from_db()
        assert run.state in ("failed", "succeeded")
        yield get(clients["operator"], url("run", number=run.number))
    yield get(clients["operator"], url("runs"))


def samples(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    """What a model wrote: what cannot be stored is left out and counted, the rest is stored as it is."""
    version = project.model_versions.first()
    run = make_run(project, "running", recipe="sample", purpose="collect", policy=version)
    (run.directory / "output").mkdir(parents=True)
    rows = []
    for number, text in enumerate(texts):
        prompt = make_prompt(project, f"Question {number}?")
        row = {
            "prompt_id": prompt.text_hash,
            "temperature": 1,
            "top_p": 1,
            "seed": 1,
            "tokens": 9,
            "finished": True,
        }
        rows += [row | {"response": said, "index": place} for place, said in enumerate((text, f"{text}."))]
    (run.directory / "output" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stored = store_responses(run)
    assert (stored.items, stored.unfit) == (len(storable(texts)), len(UNSTORED))
    assert set(storable(texts)) <= set(Completion.objects.values_list("text", flat=True))
    evaluation = make_evaluation(project, make_rival(project, "candidate"), version, wins=1, state="closed")
    places = evaluation.places.select_related("item")
    for completion, text in zip(
        places.get().item.completions.all(), (RAW["md-fence"], RAW["tex-many"]), strict=True
    ):
        Completion.objects.filter(pk=completion.pk).update(text=text)
    yield get(clients["operator"], url("evaluation", number=evaluation.number))


def snapshot_query(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    """What the form, the addresses and the buttons of snapshots and exports may be asked."""
    client, snapshot = clients["operator"], freeze_snapshot(judged(project, ["a text"]))
    names, htmx = list(QueryForm.base_fields), {"HX-Request": "true"}
    for number, text in enumerate(texts):
        odd = dict.fromkeys(names, text)
        yield get(client, url("new_snapshot"), odd)
        yield get(client, url("new_snapshot"), {names[number % len(names)]: text}, headers=htmx)
        yield post(client, url("freeze_snapshot"), {names[number % len(names)]: text})
        yield post(client, url("freeze_without", number=snapshot.number), {"rater": text})
        yield get(client, url("new_snapshot"), {"from": text})
        yield get(client, url("snapshot", number=1), {"against": text})
        yield get(client, url("snapshots"), {"page": text})
        asked = {"format": "sft", "split": "train", "file": "csv", "gzip": "1", "snapshot": "1"}
        name = list(asked)[number % len(asked)]
        yield get(client, url("export"), asked | {name: text})
        part = quote(fit(text, 500), safe="", errors="surrogatepass")
        yield client.get(f"{url('snapshots')}1/{part}")
    yield get(client, url("snapshots"))


def judged(project: Project, texts: list[str]) -> Project:
    """The project with a judgment on each of these texts as the prompt and as both responses."""
    Project.objects.filter(pk=project.pk).update(eval_percent=20)
    raters = [make_rater(project), make_rater(project)]
    for text in texts:
        item = make_item(project, prompt=make_prompt(project, text), texts=[text, f"{text}."], overlap=2)
        for rater in raters:
            make_judgment(item, rater, rationale=text, intent=text)
        make_judgment(make_item(project, prompt=item.prompt, texts=[f"{text}!"]), raters[0])
    return Project.objects.get(pk=project.pk)


def snapshot_rows(clients: dict[str, Client], project: Project, texts: list[str]) -> Answers:
    """Snapshots and exports whose every row holds such texts, made by somebody with such a name."""
    client, kept = clients["operator"], storable(texts)
    user = make_user(RAW["attribute-double"])
    first = freeze_snapshot(judged(project, kept[1:]), user=user)
    make_run(project, "succeeded", snapshot=first, model_version=make_rival(project, RAW["close-title"]))
    freeze_snapshot(judged(project, kept[:1]), SnapshotQuery(rows="soft"), user=user)
    yield get(client, url("snapshots"))
    yield get(client, url("new_snapshot"))
    for number in (1, 2):
        yield get(client, url("snapshot", number=number), {"against": str(3 - number)})
    for name in DATA_FILES:
        rows = b"".join(get(client, url("download_snapshot_file", number=1, name=name)))
        assert all(json.loads(row) for row in rows.splitlines())
    for name, file in product(EXPORT_FORMATS, FILE_KINDS):
        got = get(client, url("export"), {"format": name, "file": file})
        assert got.status_code == 200, (name, file)
        data = b"".join(got)
        assert data or "ranking" in name, (name, file)  # nothing was ranked
        yield got


SCENES: dict[str, Scene] = {scene.__name__: scene for scene in (
    trigger, base_model, admin_version, promotion, new_run, query, run_directory, samples,
    snapshot_query, snapshot_rows,
)}  # fmt: skip


@pytest.fixture(autouse=True)
def own_directory(settings, tmp_path: Path) -> None:
    settings.SNAPSHOTS_DIR = tmp_path / "snapshots"


def play(scene: str, clients: dict[str, Client], project: Project, texts: list[str], caplog: Any) -> None:
    """Nothing that the scene's answers show has run or broken out, and the server had no error."""
    assert [fault for got in SCENES[scene](clients, project, texts) for fault in faults_of(got)] == []
    assert [record for record in caplog.records if getattr(record, "status_code", 0) >= 500] == []


@pytest.mark.parametrize("scene", SCENES)
def test_no_text_breaks_anything(clients, project, present, scene, caplog):
    play(scene, clients, project, share(scene, SHARES.get(scene, 1)), caplog)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SHARES)
def test_no_text_at_all_breaks_anything(clients, project, present, scene, caplog):
    play(scene, clients, project, TEXTS, caplog)
