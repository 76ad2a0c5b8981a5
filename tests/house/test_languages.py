"""Languages: pages answer in the reader's, what is stored and what machines read stay the same in all."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import trans_real

from rating.asking_forms import WaysOfAsking
from rating.models import Judgment, Membership, Question, Role, SpanMark
from rating.presets import PRESETS
from rating.services.asking import update_asking
from rating.services.leases import lease_next_item
from rating.services.projects import rater_for
from tests.conftest import signed_in
from tests.factories import make_item, make_judgment, make_membership
from tests.house.test_routes import SIGNED_IN, address, in_project

CODES = [code for code, _name in settings.LANGUAGES]
DIRECTIONS = {"en": "ltr", "es": "ltr", "zh-hans": "ltr", "ar": "rtl"}
CHOOSE = "/language/"
# What browsers read as numbers or as codes; an address, a label or a text may hold a comma.
READ_BY_MACHINES = re.compile(
    r"^(data-.*|value|min|max|step|x|y|x1|x2|y1|y2|cx|cy|r|rx|ry|dx|dy|width|height|d|points|viewbox|transform"
    r"|rows|cols|size|colspan|rowspan|tabindex|maxlength|minlength|datetime|content|low|high|optimum)$"
)
DECIMAL_COMMA = re.compile(r"\d,\d")
GROUPED = re.compile(r"\d{1,3}([.\u00a0\u202f]\d{3})+")


class Attributes(HTMLParser):
    """All attributes of a page, and those of its first element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.root: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.root = self.root or (dict(attrs) if tag == "html" else {})
        self.found += [(tag, name, value or "") for name, value in attrs]


def attributes(response) -> Attributes:
    return Attributes(response.content.decode())


def root(response) -> tuple[str | None, str | None]:
    found = attributes(response).root
    return found.get("lang"), found.get("dir")


@pytest.fixture(autouse=True)
def english_afterwards():
    """A request leaves its language to the thread; the next test begins in English."""
    yield
    translation.activate(settings.LANGUAGE_CODE)


@pytest.mark.django_db
@pytest.mark.parametrize("code", CODES)
def test_the_browsers_language_is_taken(code):
    response = Client(headers={"accept-language": code}).get(reverse("account_login"))
    assert root(response) == (code, DIRECTIONS[code])
    assert response.headers["Content-Language"] == code
    assert "Accept-Language" in response.headers["Vary"]


@pytest.mark.django_db
def test_an_unknown_language_is_english():
    response = Client(headers={"accept-language": "tlh"}).get(reverse("account_login"))
    assert root(response) == ("en", "ltr")
    assert b"Sign in" in response.content


@pytest.mark.django_db
@pytest.mark.parametrize("code", CODES)
def test_the_choice_is_kept_in_a_cookie_and_beats_the_browser(code):
    client = Client(enforce_csrf_checks=True, headers={"accept-language": "en"})
    page = client.get(reverse("account_login"))
    sent = {"language": code, "csrfmiddlewaretoken": page.context["csrf_token"]}
    response = client.post(CHOOSE, sent, headers={"referer": "http://testserver/account/login/?next=/x/"})
    assert (response.status_code, response.url) == (302, "http://testserver/account/login/?next=/x/")
    cookie = response.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie.value, cookie["samesite"], cookie["max-age"]) == (code, "Lax", 31_536_000)
    assert cookie["httponly"]
    assert root(client.get(reverse("account_login"))) == (code, DIRECTIONS[code])


@pytest.mark.django_db
def test_the_choice_needs_a_token_and_a_post():
    client = Client(enforce_csrf_checks=True)
    assert client.post(CHOOSE, {"language": "es"}).status_code == 403
    assert settings.LANGUAGE_COOKIE_NAME not in client.get(CHOOSE, {"language": "es"}).cookies


@pytest.mark.django_db
@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example/", "javascript:alert(1)"])
def test_the_choice_leads_nowhere_else(elsewhere):
    response = Client().post(CHOOSE, {"language": "es", "next": elsewhere}, headers={"referer": elsewhere})
    assert (response.status_code, response.url) == (302, "/")


@pytest.mark.django_db
def test_an_unknown_choice_is_not_kept():
    response = Client().post(CHOOSE, {"language": "../../etc"})
    assert response.status_code == 302
    assert settings.LANGUAGE_COOKIE_NAME not in response.cookies


@pytest.mark.django_db
@pytest.mark.parametrize("code", CODES)
def test_each_language_is_offered_in_its_own_name(code, rater):
    for client, path in (
        (Client(), reverse("account_login")),
        (signed_in(rater), reverse("rating:projects")),
    ):
        page = client.get(path, headers={"accept-language": code}).content.decode()
        buttons = re.findall(r'<button[^>]* name="language"[^>]*>.*?</button>', page)
        assert len(buttons) == len(CODES)
        for (offered, name), button in zip(settings.LANGUAGES, buttons, strict=True):
            assert f'value="{offered}"' in button
            assert f'<span lang="{offered}" dir="{DIRECTIONS[offered]}">{name}</span>' in button
            assert ('aria-current="true"' in button) == (offered == code)


@pytest.mark.parametrize("broken", ["400", "500"])
def test_pages_of_last_resort_speak_the_language_too(broken):
    from django.core.exceptions import SuspiciousOperation
    from django.test import RequestFactory

    from config.errors import bad_request, server_error

    request = RequestFactory().get("/x/", headers={"accept-language": "ar"})
    response = bad_request(request, SuspiciousOperation()) if broken == "400" else server_error(request)
    assert response.status_code == int(broken)
    assert root(response) == ("ar", "rtl")


@pytest.fixture
def full_project(project, rater, admin):
    """A project that asks for everything, with a judged and an open item, and counts above a thousand."""
    settings_of = {"comparison": "strengths", "rate_each": True, "pair_safety": True, "mark_spans": True}
    dimensions = [{"name": "Helpful", "key": "helpful"}, {"name": "Kind", "style": "thumbs"}]
    questions = [{"text": "True?", "kind": "yes_no"}, {"text": "How?", "kind": "scale", "scope": "response"}]
    judged = make_item(project, n=2)
    make_judgment(judged, rater_for(project, rater))
    make_item(project, n=2)
    update_asking(project, {**settings_of, "undo_seconds": 1800}, dimensions, questions)
    project.refresh_from_db()
    return project


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["rater", "admin", "operator"])
@pytest.mark.parametrize("code", ["es", "ar"])
def test_numbers_for_machines_are_the_same_in_every_language(code, role, full_project, people):
    client, walked = signed_in(people[role]), 0
    for name in (*in_project(), *sorted(SIGNED_IN)):
        response = client.get(address(name, full_project.slug), headers={"accept-language": code})
        if response.status_code != 200 or not response.headers["Content-Type"].startswith("text/html"):
            continue
        walked += 1
        for tag, attribute, value in attributes(response).found:
            if READ_BY_MACHINES.match(attribute):
                assert not DECIMAL_COMMA.search(value), f"{name}: <{tag} {attribute}={value!r}>"
                assert not GROUPED.fullmatch(value), f"{name}: <{tag} {attribute}={value!r}>"
    assert walked >= 4, f"only {walked} pages of {role} were looked at"


@pytest.mark.django_db
@pytest.mark.parametrize("code", CODES)
def test_an_answer_is_stored_in_the_same_codes(code, full_project, rater):
    client = signed_in(rater)
    page = client.get(
        reverse("rating:judge", kwargs={"slug": full_project.slug}), headers={"accept-language": code}
    )
    lease, form = page.context["lease"], page.context["form"]
    sent = {name: form[name].value() or "" for name in form.fields}
    sent |= {
        "idempotency_key": str(form["idempotency_key"].value()),
        "choice": "1",
        "strength": "slightly",
        "safety": "both_safe",
        "flags": ["harmful"],
        "seconds": "1.5",
        "mark_1_0_passage": form_text(lease, 0)[:6],
        "mark_1_0_verdict": "bad",
    }
    for name in form.fields:
        if name.startswith(("rating_", "answer_how")):
            sent[name] = "1"
        elif name.startswith("answer_"):
            sent[name] = "yes"
    where = reverse("rating:answer", kwargs={"slug": full_project.slug, "assignment": lease.public_id})
    response = client.post(where, sent, headers={"accept-language": code})
    assert response.status_code == 302, response.context["form"].errors
    stored = Judgment.objects.get(assignment=lease)
    assert (stored.strength, stored.safety, stored.flags) == ("slightly", "both_safe", ["harmful"])
    assert stored.choice in {"a", "b"}
    assert stored.seconds is not None
    assert SpanMark.objects.get(judgment=stored).verdict == "bad"
    assert stored.answers.get(question__kind=Question.Kind.YES_NO).value is True


def form_text(lease, place):
    return lease.item.completions.get(pk=lease.order_shown[place]).text


@pytest.mark.django_db
@pytest.mark.parametrize("code", CODES)
def test_a_role_is_stored_by_its_code(code, project, admin, outsider):
    where = reverse("rating:members", kwargs={"slug": project.slug})
    sent = {"username": outsider.username, "role": "operator"}
    assert signed_in(admin).post(where, sent, headers={"accept-language": code}).status_code == 302
    assert Membership.objects.get(user=outsider, project=project).role == "operator"


@pytest.mark.django_db
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fits_in_every_language_and_keeps_its_keys(preset, code, project):
    with translation.override(code):
        ways = WaysOfAsking(project, preset=preset)
        rows = [dict(row) for row in (*ways.dimensions.initial, *ways.questions.initial)]
        assert not [value for row in rows for value in row.values() if isinstance(value, Promise)]
        filled = {name: ways.settings[name].initial for name in ways.settings.fields}
        update_asking(project, filled, ways.dimensions.initial, ways.questions.initial)
    stored = project.__class__.objects.get(pk=project.pk)
    wanted = PRESETS[preset]
    assert stored.preset == preset
    keys = [*stored.dimensions.values_list("key", flat=True), *stored.questions.values_list("key", flat=True)]
    assert keys == [row["key"] for row in (*wanted.dimensions, *wanted.questions)]
    assert all(getattr(stored, name) == value for name, value in wanted.settings.items())


@pytest.mark.django_db
def test_words_are_looked_up_when_they_are_shown_not_when_they_are_loaded(project, rater, monkeypatch):
    """A stand-in for a catalogue: whatever is looked up gets brackets on the way to the page."""

    def look_up(_catalogue, message):
        return f"⟦{message.rpartition(trans_real.CONTEXT_SEPARATOR)[2]}⟧"

    monkeypatch.setattr(trans_real.DjangoTranslation, "gettext", look_up)
    make_item(project, n=2)
    with translation.override("es"):
        lease = lease_next_item(project, rater_for(project, rater))
    assert lease is not None
    client = signed_in(rater)
    page = client.get(
        reverse("rating:judge", kwargs={"slug": project.slug}), headers={"accept-language": "es"}
    ).content.decode()
    for words in ("Save and go on", "Guidelines", "Harmful content", "Skip this item?", "User", "Rate"):
        assert f"⟦{words}⟧" in page, words
    for code in ('value="harmful"', 'value="slightly"', 'data-role="user"'):
        assert code in page, code


@pytest.mark.django_db
def test_a_foreign_page_says_its_roles_in_one_sentence(project, rater):
    make_membership(project, role=Role.ADMIN)
    where = reverse("rating:members", kwargs={"slug": project.slug})
    response = signed_in(rater).get(where)
    assert response.status_code == 403
    assert "This page is for the roles: Admin." in response.content.decode()
