"""Every hostile text in every field of the rating side: stored and shown inert, or refused by name; never a 500.

A scene fills the fields of one form or file with all texts and returns the answers of the server. Where a
field has a limit, as much of a text as fits goes in; `test_unfit_texts_are_refused_by_name` sends more.
"""

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from rating.models import (
    ApiToken,
    Assignment,
    Completion,
    Import,
    Project,
    Prompt,
    Question,
    User,
    Webhook,
)
from rating.presets import PLAIN
from rating.services.asking import update_asking
from rating.services.imports.worker import ImportWorker
from rating.services.leases import lease_next_item
from rating.services.projects import rater_for
from tests.api import program, send
from tests.conftest import signed_in
from tests.factories import make_item, make_membership, make_user
from tests.hostile import RAW, STORED, UNSTORABLE, UNSTORED, faults_of, fit, get, post, share

pytestmark = pytest.mark.django_db
NAMES = {"slug": "demo"}
TEXTS = list(RAW.values())
KEPT = [RAW[name] for name in STORED]
SETTLED = {"overlap": 1, "queue_strategy": "oldest", "lease_seconds": 1800, "eval_percent": 10}
Answers = Iterator[Any]
Scene = Callable[[dict[str, Client], list[str]], Answers]
# `make test` sends every so many-th text in the scenes that take long; `make test-slow` sends them all.
SHARES = {
    "new_project": 4, "settings": 4, "guidelines": 4, "asking": 4, "answer": 4, "members": 3, "account_names": 4,
    "import_rows": 12, "import_columns": 12, "import_name": 12, "query": 12, "slug_in_address": 3, "sign_in": 4,
    "admin_search": 6, "tokens": 12, "webhooks": 6, "programs": 24,
}  # fmt: skip


def storable(texts: list[str]) -> list[str]:
    """Those that a column takes."""
    return [text for text in texts if not UNSTORABLE.search(text)]


def url(name: str, **more: object) -> str:
    return reverse(f"rating:{name}", kwargs=NAMES | more)


@pytest.fixture
def clients(people: dict[str, User]) -> dict[str, Client]:
    """A browser for each persona and for a superuser, in which an error of the server is a 500."""
    everybody = people | {"root": make_user("root", is_staff=True, is_superuser=True)}
    found = {name: signed_in(user) for name, user in everybody.items()}
    for client in found.values():
        client.raise_request_exception = False
    return found


def new_project(clients: dict[str, Client], texts: list[str]) -> Answers:
    there, client = reverse("rating:create_project"), clients["root"]
    for text in texts:
        data = {"name": fit(text, 120), "slug": "", "description": text, "guidelines": fit(text, 50_000)}
        yield post(client, there, data | SETTLED)
        yield post(client, there, data | dict.fromkeys(SETTLED, text) | {"slug": fit(text, 60)})
    yield get(client, reverse("rating:projects"))


def settings(clients: dict[str, Client], texts: list[str]) -> Answers:
    for text in texts:
        yield post(clients["admin"], url("settings"), {"name": fit(text, 120), "description": text} | SETTLED)
        yield get(clients["rater"], url("project"))
        yield get(clients["admin"], url("audit"))


def guidelines(clients: dict[str, Client], texts: list[str]) -> Answers:
    for text in texts:
        yield post(clients["admin"], url("publish_guidelines"), {"text": fit(text, 50_000)})
        yield get(clients["rater"], url("project"))


def asked_rows(texts: list[str]) -> dict[str, Any]:
    """The form of ways of asking with a text in each of its rows: twelve dimensions at most, the others questions."""
    data: dict[str, Any] = {"comparison": "choice", "asked": "better", "rationale": "optional"}
    data |= {"undo_seconds": 600, "scale_min": 1, "scale_max": 5, "mark_spans": "on", "responses": 1}
    data["span_reasons"] = "\n".join(fit(one_line(text), 200) for text in texts)
    kinds = ("yes_no", "choice", "scale", "text", "tags")
    parts = (("dimensions", texts[:12]), ("questions", texts[12:]))
    for part, words in parts:
        data |= {f"{part}-TOTAL_FORMS": len(words), f"{part}-INITIAL_FORMS": 0}
        for place, text in enumerate(words):
            options = f"{fit(one_line(text), 90)}\nconstructor\n__proto__\nanother"
            row = {"name": fit(text, 80), "style": ("numbers", "thumbs")[place % 2], "low": 1, "high": 5}
            row |= {"text": fit(text, 300), "kind": kinds[place % 5], "scope": "item", "options": options}
            row |= {"low_label": fit(text, 60), "high_label": fit(text, 60)}
            data |= {f"{part}-{place}-{name}": value for name, value in row.items()}
    return data


def one_line(text: str) -> str:
    return " ".join(text.split())


def asking(clients: dict[str, Client], texts: list[str]) -> Answers:
    client = clients["admin"]
    names = ("preset", "dimensions-0-key", "dimensions-0-low", "dimensions-0-ORDER", "dimensions-TOTAL_FORMS")
    for text in texts:
        odd = dict.fromkeys(
            (*names, "comparison", "span_reasons", "responses", "questions-TOTAL_FORMS", "add"), text
        )
        yield post(client, url("preview_asking"), asked_rows([]) | odd, headers={"HX-Request": "true"})
        yield post(client, url("preview_asking"), odd | {"add": "dimensions"}, headers={"HX-Request": "true"})
    seen = [text for text in storable(texts) if len(text.strip()) > 1 and one_line(text)]
    for first in range(0, len(seen), 40):
        unique = list({one_line(fit(text, 60)): text for text in seen[first : first + 40]}.values())
        sent = post(client, url("asking"), asked_rows(unique))
        assert sent.status_code == 302, sent.context["ways"].settings.errors
        yield get(client, url("asking"))
        take_lease()
        yield get(clients["rater"], url("judge"))
    yield post(client, url("asking"), asked_rows([RAW[UNSTORED[0]]]))


def shifted(names: tuple[str, ...], start: int) -> dict[str, str]:
    """Fields with the texts from this one on, a different one in each."""
    return {name: TEXTS[(start + place) % len(TEXTS)] for place, name in enumerate(names)}


def take_lease() -> Assignment:
    """A new item, leased to the rater."""
    project = Project.objects.get(slug="demo")
    make_item(project, texts=[f"the first {uuid.uuid4()}", "the second, the last"])
    lease = lease_next_item(project, rater_for(project, User.objects.get(username="rater")))
    assert lease is not None
    return lease


def answer(clients: dict[str, Client], texts: list[str]) -> Answers:
    client = clients["rater"]
    free = (
        "choice",
        "strength",
        "safety",
        "flags",
        "answer_choice",
        "answer_tags",
        "answer_scale",
        "answer_free",
    )
    marked = ("mark_1_0_passage", "mark_1_0_verdict", "mark_1_0_nth", "mark_1_0_reason", "idempotency_key")
    lease = take_lease()
    for start in range(0, len(texts), 4):
        odd = shifted((*free, *marked, "rank_1", "rating", "best", "rationale", "intent", "rewrite"), start)
        yield post(client, url("answer", assignment=lease.public_id), odd)
    post(client, url("skip", assignment=lease.public_id), {})
    for number, text in enumerate(storable(texts)):
        lease = take_lease()
        words = [KEPT[(number + shift) % len(KEPT)] for shift in (0, 40, 80, 120)]
        said = {"rationale": fit(words[0], 20_000), "intent": fit(words[1], 5_000).strip() or "-"}
        said |= {
            "rewrite": fit(words[2], 99_999),
            "answer_free": fit(words[3], 5_000),
            "seconds": fit(text, 40),
        }
        mark = {"mark_1_0_passage": "the", "mark_1_0_verdict": "bad", "mark_1_0_reason": fit(text, 200)}
        given = {
            "idempotency_key": uuid.uuid4(),
            "choice": "1",
            "held": text,
            "revises": text,
            **said,
            **mark,
        }
        yield post(client, url("answer", assignment=lease.public_id), given)
        assert lease.judgments.count() == 1, text[:80]
        if number % 4 == 0:
            yield get(client, url("revise", assignment=lease.public_id))


def skip(clients: dict[str, Client], texts: list[str]) -> Answers:
    for text in texts:
        lease = take_lease()
        yield post(clients["rater"], url("skip", assignment=lease.public_id), {"reason": text})


def members(clients: dict[str, Client], texts: list[str]) -> Answers:
    for text in texts:
        yield post(clients["admin"], url("members"), {"username": fit(text, 150), "role": text})


def tokens(clients: dict[str, Client], texts: list[str]) -> Answers:
    there = reverse("rating:tokens")
    for text in texts:
        ApiToken.objects.update(revoked_at=timezone.now())  # an account has fifty at most
        yield post(clients["admin"], there, {"name": fit(text, 80), "scopes": ["read"], "days": 7})
        yield post(clients["admin"], there, {"name": "n", "scopes": [text], "days": text, "project": text})
    yield get(clients["admin"], there)


def webhooks(clients: dict[str, Client], texts: list[str]) -> Answers:
    for text in texts:
        Webhook.objects.all().delete()  # a project has ten at most
        yield post(clients["admin"], url("webhooks"), {"url": text})
        yield post(clients["admin"], url("webhooks"), {"url": f"https://example.org/{fit(text, 400)}"})
    yield get(clients["admin"], url("webhooks"))


def programs(clients: dict[str, Client], texts: list[str]) -> Answers:
    """Every text as a value, as a name, in the query string and as a token."""
    api = program(make_user("program", is_superuser=True))
    api.raise_request_exception = False
    here = "/api/projects/demo/"
    for text in texts:
        for method, path, body in (
            ("patch", here, {"name": fit(text, 120), "description": text}),
            ("patch", here, {text: text}),
            ("post", f"{here}guidelines/", {"text": fit(text, 50_000)}),
            ("post", f"{here}members/", {"username": text, "role": text}),
            ("post", f"{here}triggers/", {"name": text, "schedule": text, "plan": [{"recipe": text}]}),
            ("post", f"{here}runs/", {"recipe": text, "settings": {text: text}}),
            ("post", f"{here}versions/", {"name": text, "base": text}),
            ("post", f"{here}snapshots/", {"query": {"raters": [text], "with_flags": [text], text: 1}}),
        ):
            yield send(api, method, path, body)
        yield get(api, f"{here}judgments/", {"rater": text, "since": text, "cursor": text, "limit": text})
        yield get(api, f"{here}export/", {"format": text, "split": text})
        yield get(api, here)
        yield get(Client(headers={"Authorization": f"Bearer {text.encode('utf-8', 'ignore')!r}"}), here)


def account_names(clients: dict[str, Client], texts: list[str]) -> Answers:
    """Names that only the database takes, from another program say, and those typed in the administration."""
    names = {normalize("NFKC", fit(text, 150)): text for text in storable(texts)}
    for name, text in names.items():
        user = make_user(
            name, first_name=name, last_name=name, email=text[:200], is_staff=True, is_superuser=True
        )
        make_membership(Project.objects.get(slug="demo"), user, "admin")
        own = signed_in(user)
        own.raise_request_exception = False
        yield get(own, url("import"))
    yield get(clients["admin"], url("members"))
    yield get(clients["root"], reverse("admin:rating_user_changelist"))
    password = "a long enough one"
    for name in UNSTORED:
        data = {
            "username": RAW[name],
            "password1": password,
            "password2": password,
            "usable_password": "true",
        }
        yield post(clients["root"], reverse("admin:rating_user_add"), data)


def preferences(clients: dict[str, Client], texts: list[str]) -> Answers:
    client, there = clients["rater"], reverse("rating:preferences")
    page = get(client, there).context["form"]
    usual = {name: page[name].value() or "" for name in page.fields if page[name].value() is not False}
    for start in range(0, len(texts), 6):
        yield post(client, there, shifted((*usual, "next"), start))
    for sign in sorted({text[0] for text in texts} | {text[-1] for text in texts}):
        yield post(client, there, usual | {"key_undo": sign})
    yield get(client, url("judge"))


def upload(client: Client, data: bytes, name: bytes = b"rows.jsonl") -> Any:
    """Send a file as a browser does; the name goes as the bytes that they are."""
    body = b'--border\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    body += data + b"\r\n--border--\r\n"
    return client.post(url("import"), body, content_type="multipart/form-data; boundary=border")


def take(client: Client, data: bytes, chosen: dict[str, str], name: bytes = b"rows.jsonl") -> Answers:
    """Upload a file, look at it, start it as chosen, have it carried out, and see what became of it."""
    sent = upload(client, data, name)
    yield sent
    if sent.status_code != 302:
        return
    row = Import.objects.latest("pk")
    yield get(client, url("import_file", pk=row.pk))
    yield get(client, url("import_file", pk=row.pk), chosen)
    yield post(client, url("start_import", pk=row.pk), chosen)
    ImportWorker().work(once=True)
    yield get(client, url("import_file", pk=row.pk))
    refused = get(client, url("refused_rows", pk=row.pk))
    assert refused.status_code == 404 or all(json.loads(line) for line in b"".join(refused).splitlines())
    yield refused


def packed(*rows: object, escaped: bool = True) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=escaped) for row in rows).encode(errors="surrogatepass")


def good_row(text: str) -> dict[str, Any]:
    """A row with the text wherever one may stand."""
    talk = [{"role": role, "content": text} for role in ("system", "user", "assistant", "user")]
    responses = [{"text": text, "model": fit(text, 200)}, {"text": f"{text}.", "model": "other"}]
    metadata = {"topic": text, "list": [text], fit(text, 200): 1}
    return {"prompt": talk, "responses": responses, "metadata": metadata, text: text}


def judged_row(text: str) -> dict[str, str]:
    head = f"\n\nHuman: {text}\n\nAssistant: "
    return {"chosen": f"{head}{text}", "rejected": f"{head}worse", text: text}


def bad_rows(text: str) -> list[dict[str, Any]]:
    """Rows that are refused, with the text where the refusal may tell of it."""
    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": text, "content": text}]},
        {"prompt": "x", "kind": text},
        {"prompt": "x", "responses": [{text: text}]},
        {"prompt": "x", "metadata": {text: {text: "\ud800"}}},
        {"chosen": text, "rejected": text},
        {"prompt": text, "responses": text},
    ]
    return rows


def import_rows(clients: dict[str, Client], texts: list[str]) -> Answers:
    client, kept = clients["admin"], KEPT  # all at once cost little
    for number, (rows, form) in enumerate(
        ((good_row, "responses"), (good_row, "responses"), (judged_row, "hh-rlhf"))
    ):
        data = packed(*map(rows, kept), escaped=number != 1)
        yield from take(client, data, {"format": form})
        done = Import.objects.latest("pk")
        assert done.state == "succeeded", done.errors
    assert set(kept) <= {completion.text for completion in Completion.objects.all()}
    assert {prompt.messages[0]["content"] for prompt in Prompt.objects.all()} >= set(kept)
    for first in range(
        0, len(texts), 3
    ):  # as many as the list of faults tells of, and as the page shows rows
        part = texts[first : first + 3]
        bad = [row for text in part for row in bad_rows(text)]
        yield from take(
            client, packed(*bad), {"format": "responses"} | ({"keep_good": "on"} if first % 2 else {})
        )
        yield from take(client, packed(*map(good_row, part)), {"format": "responses", "dry_run": "on"})
    for name in UNSTORED:
        yield from take(client, packed(good_row(RAW[name]), escaped=False), {"format": "responses"})
    yield get(clients["root"], reverse("admin:rating_import_changelist"))
    yield get(clients["rater"], url("judge"))


def import_columns(clients: dict[str, Client], texts: list[str]) -> Answers:
    """Tables whose columns have such names, and a form that is filled in with anything."""
    client, kept = clients["admin"], [text for text in storable(texts) if one_line(text)]
    roles = ("prompt", "responses", "model", "rater")
    for first in range(0, len(kept), 4):
        cells = [kept[(first + place) % len(kept)] for place in range(4)]
        heading = [f"{fit(one_line(text), 60)} {place}" for place, text in enumerate(cells)]
        table = io.StringIO()
        csv.writer(table).writerows([heading, *([fit(text, 9000)] * 4 for text in cells)])
        chosen = {"format": "columns", **dict(zip(roles, heading, strict=True)), "keep_good": "on"}
        yield from take(client, table.getvalue().encode(), chosen, b"rows.csv")
    assert Import.objects.filter(state="succeeded").exclude(columns={}).exists()
    names = ("format", "prompt", "responses", "chosen", "rejected", "label", "model", "rater")
    for text in texts:
        odd = dict.fromkeys((*names, "keep_good", "dry_run"), text)
        yield from take(client, text.encode(errors="surrogatepass"), odd)
        there = url("import_file", pk=Import.objects.latest("pk").pk)
        yield get(client, there, {"seen": text}, headers={"HX-Request": "true"})


def import_name(clients: dict[str, Client], texts: list[str]) -> Answers:
    client = clients["admin"]
    for text in texts:
        name = fit(text.replace('"', "%22").replace("\r", "").replace("\n", ""), 900)
        typed = name.encode(errors="surrogatepass")
        data = packed({"prompt": f"A question {uuid.uuid4()}?"})
        yield from take(client, data, {"format": "responses"}, typed)
        yield upload(client, b"{", typed)
    yield get(client, url("import"))
    yield get(clients["root"], reverse("admin:rating_prompt_changelist"))
    yield get(clients["root"], reverse("admin:rating_import_changelist"))


def query(clients: dict[str, Client], texts: list[str]) -> Answers:
    rater, admin = clients["rater"], clients["admin"]
    take_lease()
    for text in texts[::12]:
        yield get(admin, url("asking"), {"preset": text})
    for text in texts:
        yield get(rater, url("judge"), {"held": text}, headers={"HX-Request": "true"})
        yield get(Client(raise_request_exception=False), reverse("account_login"), {"next": text})
        yield post(rater, reverse("rating:preferences"), {"reset": "1", "next": text})


def slug_in_address(clients: dict[str, Client], texts: list[str]) -> Answers:
    for text in texts:
        part = quote(fit(text, 1000), safe="", errors="surrogatepass")
        for place in (f"/projects/{part}/", f"/projects/demo/rate/{part}/", f"/static/{part}"):
            yield clients["admin"].get(place)
        yield clients["root"].get(f"/admin/rating/project/{part}/change/")


def headers(clients: dict[str, Client], texts: list[str]) -> Answers:
    lease = get(clients["rater"], url("judge")).context["lease"]
    for text in texts:
        value = fit(text, 500).encode(errors="replace").decode("latin-1")
        names = (
            "X-Ratchet-Account",
            "HX-Request",
            "HX-Current-URL",
            "Accept-Language",
            "X-CSRFToken",
            "Referer",
        )
        sent = dict.fromkeys(names, value)
        yield post(clients["rater"], url("answer", assignment=lease.public_id), {"choice": "1"}, headers=sent)


def sign_in(clients: dict[str, Client], texts: list[str]) -> Answers:
    client = Client(raise_request_exception=False)
    for text in texts:
        there = reverse("account_login")
        yield post(client, there, {"login": fit(text, 150), "password": text, "next": text, "remember": text})
        own = {"oldpassword": text, "password1": text, "password2": text}
        yield post(clients["outsider"], reverse("account_change_password"), own)
        yield post(clients["outsider"], reverse("account_email"), {"email": text, "action_add": ""})
        yield post(client, reverse("account_reset_password"), {"email": text})


def admin_search(clients: dict[str, Client], texts: list[str]) -> Answers:
    tables = ("project", "judgment", "completion", "user", "prompt", "rater")
    for number, text in enumerate(texts):
        table = reverse(f"admin:rating_{tables[number % len(tables)]}_changelist")
        yield get(clients["root"], table, {"q": text})
        if number % 6 == 0:
            odd = {"purpose__exact": text, "p": text, "o": text}
            yield get(clients["root"], reverse("admin:rating_item_changelist"), odd)


SCENES: dict[str, Scene] = {scene.__name__: scene for scene in (
    new_project, settings, guidelines, asking, answer, skip, members, tokens, programs, webhooks,
    account_names, preferences, import_rows, import_columns, import_name, query, slug_in_address, headers, sign_in, admin_search,
)}  # fmt: skip


@pytest.fixture
def stage(settings, tmp_path: Path, project: Project, clients: dict[str, Client]) -> dict[str, Client]:
    """A project that asks for everything, with items to rate."""
    settings.HOME = tmp_path
    settings.ACCOUNT_RATE_LIMITS = False  # or the later texts would not be read
    asked = PLAIN | {"allow_rewrite": True, "mark_spans": True, "ask_intent": True, "rationale": "optional"}
    questions = [
        {"key": "free", "text": "In words?", "kind": Question.Kind.TEXT},
        {"key": "choice", "text": "Which?", "kind": Question.Kind.CHOICE, "options": ["one", "two"]},
        {"key": "tags", "text": "Which ones?", "kind": Question.Kind.TAGS, "options": ["one", "two"]},
        {"key": "scale", "text": "How much?", "kind": Question.Kind.SCALE},
    ]
    update_asking(project, asked, [], questions)
    make_item(project, texts=["the first of them", "the second, the last"])
    return clients


def play(scene: str, clients: dict[str, Client], texts: list[str], caplog: Any) -> None:
    """Nothing that the scene's answers show has run or broken out, and the server had no error."""
    assert [fault for got in SCENES[scene](clients, texts) for fault in faults_of(got)] == []
    assert [record for record in caplog.records if getattr(record, "status_code", 0) >= 500] == []


@pytest.mark.parametrize("scene", SCENES)
def test_no_text_breaks_anything(stage, scene, caplog):
    play(scene, stage, share(scene, SHARES.get(scene, 1)), caplog)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SHARES)
def test_no_text_at_all_breaks_anything(stage, scene, caplog):
    play(scene, stage, TEXTS, caplog)


@pytest.mark.parametrize(
    ("name", "field", "limit"),
    [
        ("settings", "name", 120),
        ("settings", "description", None),
        ("publish_guidelines", "text", 50_000),
        ("members", "username", 150),
    ],
)
def test_unfit_texts_are_refused_by_name(clients, project, name, field, limit):
    data = SETTLED | {"name": "Fine", "role": "rater"}
    for text in ["a\x00b", *(["x" * (limit + 1)] if limit else [])]:
        got = post(clients["admin"], url(name), data | {field: text})
        form = got.context["guidelines_form" if name == "publish_guidelines" else "form"]
        assert got.status_code == 422
        assert list(form.errors) == [field]
        assert str(form.errors[field]) in got.content.decode()
