"""The operator's pages in other languages: numbers for machines stay as machines write them."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import translation

from rating.models import ModelVersion, Project
from tests.training.rows import make_curve, make_evaluation, make_event, make_rival, make_run
from training.charts import Series, draw_interval, draw_lines
from training.models import Evaluation, Trigger
from training.recipes.spec import RECIPES, TRAINED
from training.run_page import read_notes
from training.services.claims import add_note
from training.services.promotions import promote_version
from training.services.runs import CANCELLATIONS, request_cancel, settable_fields
from training.services.sentences import Sentence, counted, retell
from training.services.triggers import fire_trigger, save_trigger
from training.settings_form import SettingsForm, setting_label
from training.templatetags.figures import duration, moment, number, percent

# Attributes that hold words for people, or what people wrote; all others are read by machines.
WORDS = {"aria-label", "title", "alt", "content", "placeholder", "class"}
COMMA = re.compile(r"\d,\d")
# Pairs of coordinates are written x,y: only more than one comma between blanks is a decimal one.
PAIR = re.compile(r"-?\d+(\.\d+)?,-?\d+(\.\d+)?")


class Attributes(HTMLParser):
    """Every attribute of a page as (tag, name, value)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]


def localized_numbers(html: str) -> list[tuple[str, str, str]]:
    """The attributes in which a number was written for people."""
    wrong = []
    for tag, name, value in Attributes(html).found:
        if name in WORDS:
            continue
        parts = value.split() if name == "points" else [value]
        if any(COMMA.search(part) and not (name == "points" and PAIR.fullmatch(part)) for part in parts):
            wrong.append((tag, name, value))
    return wrong


def test_the_check_sees_a_decimal_comma():
    assert localized_numbers('<progress value="0,5" max="1"></progress>')
    assert localized_numbers('<polyline points="1,5,2 3,4"/>')
    assert localized_numbers('<a href="?from=1,234">x</a>')
    assert not localized_numbers('<polyline points="1.5,2 3,4.25"/><p title="1,5">0,5</p>')


@pytest.fixture
def addresses(project: Project, present: ModelVersion, snapshot, settings) -> list[str]:
    """The addresses of every page of the training rooms, with something of everything on them."""
    policy = make_rival(project, "policy-1", parent=present, files={"model.safetensors": "a" * 64})
    done = make_run(
        project,
        "succeeded",
        policy=present,
        snapshot=snapshot,
        model_version=policy,
        step=1500,
        total_steps=1500,
        settings={"learning_rate": 0.002, "beta": 0.05, "lora": None, "probes": {"temperature": 0.5}},
        result={
            "environment": {"platform": "Linux", "threads": 2, "cpus": 4},
            "metrics": {"eval/accuracy": 0.75, "tokens": 1234567.5},
        },
    )
    make_curve(done, 30, loss=0.512, accuracy=0.61, kl=0.00001, **{"logps/chosen": -3.25})
    measures = {"accuracy": 0.75, "accuracy_low": 0.6, "accuracy_high": 0.86, "loss": 0.5, "pairs": 40.0}
    make_event(done, "started", device="cpu", parameters={"total": 1234567, "trainable": 1234})
    make_event(done, "evaluation", 30, values=measures)
    prompt = [{"role": "user", "content": "Why?"}]
    make_event(done, "samples", 0, phase="before", rows=[{"prompt": prompt, "response": "Because."}])
    make_event(done, "samples", 9, phase="during", rows=[{"prompt": prompt, "response": "So."}])
    running = make_run(project, "running", step=1250, total_steps=5000, policy=present)
    make_curve(running, 20)
    failed = make_run(project, "failed", error_code="nan_loss", error_message="nan")
    evaluation = make_evaluation(project, policy, present, wins=30, losses=2, state=Evaluation.State.CLOSED)
    make_evaluation(project, make_rival(project), present, wins=2, losses=1, unjudged=4)
    promote_version(project, policy, user=None, evaluation=evaluation, reason="It won.", collect=0)
    plan = [{"recipe": "reward", "settings": {"epochs": 2.5}}, {"recipe": "ppo", "settings": {}}]
    trigger = save_trigger(project, name="t", every_judgments=1500, schedule="0 3 * * *", plan=plan)
    named = [("overview", {}), ("runs", {}), ("new_run", {}), ("versions", {}), ("new_trigger", {})]
    named += [("run", {"number": run.number}) for run in (done, running, failed)]
    named += [("evaluation", {"number": 1}), ("evaluation", {"number": 2})]
    named += [("promote", {"pk": policy.pk}), ("edit_trigger", {"pk": trigger.pk})]
    found = [reverse(f"training:{name}", kwargs={"slug": project.slug, **more}) for name, more in named]
    start = reverse("training:new_run", args=[project.slug])
    return [
        *found,
        f"{start}?from={done.number}",
        *(f"{start}?recipe={name}" for name in ("dpo", "ppo", "sft")),
    ]


@pytest.mark.parametrize("language", ["en", "es", "zh-hans", "ar"])
def test_numbers_for_machines_are_never_localized(operator_client, addresses, settings, language):
    settings.LANGUAGE_CODE = language
    # However a language groups and separates numbers, and whoever chooses to.
    settings.USE_THOUSAND_SEPARATOR = True
    with translation.override(language):
        for address in addresses:
            response = operator_client.get(address, headers={"Accept-Language": language})
            assert response.status_code == 200, address
            assert localized_numbers(response.content.decode()) == [], address


def test_numbers_for_people_are_localized(operator_client, addresses, settings):
    settings.LANGUAGE_CODE = "es"
    with translation.override("es"):
        html = "".join(
            operator_client.get(address, headers={"Accept-Language": "es"}).content.decode()
            for address in addresses
        )
    assert "93,8%" in html.replace(" ", "").replace("\xa0", "")
    assert "93.8%" not in html


class Words(HTMLParser):
    """The words of a page's main part that stand outside the marks of `mark_messages`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.depth, self.inside = 0, []
        self.feed(html[html.index("<main") : html.index("</main")])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += [tag] if tag in VERBATIM else []
        self.found |= {value or "" for name, value in attrs if name in ("aria-label", "title", "alt")}

    def handle_endtag(self, tag: str) -> None:
        if tag in VERBATIM:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        bare = ""
        for char in data:
            self.depth += (char == "⟦") - (char == "⟧")
            bare += char if self.depth == 0 and char != "⟧" else "\n"
        if not self.inside:
            self.found |= {line.strip() for line in bare.splitlines()}


# Code, drawings and what people or programs wrote are the same in every language.
VERBATIM = {"pre", "code", "textarea", "bdi", "svg", "script", "noscript"}
# Names of recipes, settings, their values, curves and files; model versions, prompts and reasons of the test.
CANONICAL = re.compile(r"[a-z0-9][\w./-]*|sha256 .*|(good|bad) [\d.]+|Held-out question [\d.]+\?")
WRITTEN = {"Why?", "Because.", "So.", "It won.", "The first one.", "Linux"}


def mark_messages(monkeypatch) -> None:
    """Put every message between marks, so that what was not made translatable stands out."""

    def mark(message: str) -> str:
        return f"⟦{message}⟧" if message else ""

    def choose(one: str, many: str, count: int) -> str:
        return mark(one if count == 1 else many)

    back_end = translation._trans
    monkeypatch.setattr(back_end, "gettext", mark)
    monkeypatch.setattr(back_end, "ngettext", choose)
    monkeypatch.setattr(back_end, "npgettext", lambda context, *rest: choose(*rest))
    monkeypatch.setattr(
        back_end, "pgettext", lambda context, words: words if context == "date format" else mark(words)
    )


def test_every_word_of_the_pages_is_translatable(operator_client, addresses, monkeypatch):
    mark_messages(monkeypatch)
    for address in addresses:
        words = Words(operator_client.get(address).content.decode())
        assert words.depth == 0, address
        bare = {text for text in words.found if re.search("[A-Za-z]{2}", text) and "⟦" not in text}
        # The kinds of model versions are words of the rating app.
        bare -= WRITTEN | {kind.label for kind in ModelVersion.Kind}
        assert {text for text in bare if not CANONICAL.fullmatch(text)} == set(), address


def test_what_is_written_in_a_form_is_what_the_form_takes():
    with translation.override("es"):
        form = SettingsForm("dpo", settings={"learning_rate": 0.002})
        assert 'value="0.002"' in str(form["learning_rate"])
        assert 'value="0.1"' in str(form["beta"])


def test_charts_are_drawn_alike_in_every_language():
    def shapes(svg: str) -> list[str]:
        return re.findall(r' (?:points|x|y|x1|x2|y1|y2|cx|cy|r|viewBox)="[^"]*"', svg)

    def draw() -> str:
        line = draw_lines("Loss", [Series("training", [(1, 0.512), (2, 0.25), (3, 0.125)])])
        return line + draw_interval("Win rate", 0.25, 0.5, 0.75)

    english = draw()
    assert english.count('direction="ltr"') == 2
    for language in ("es", "zh-hans", "ar"):
        with translation.override(language):
            assert shapes(draw()) == shapes(english)


def test_figures_follow_the_language():
    with translation.override("es"):
        assert percent(0.9375).replace("\xa0", "").replace(" ", "") == "93,8%"
        assert number(0.693147) == "0,693"
        assert number(1234567.0).replace("\xa0", ".") == "1.234.567"
    with translation.override("en"):
        assert [percent(0.9375), number(0.693147), number(12345.6)] == ["93.8%", "0.693", "12,346"]
        assert moment(datetime(2026, 1, 2, 3, 4, tzinfo=UTC)) == "2 Jan 2026, 03:04"
        spans = [0, 8, 60, 200, 7500, 7200, 273600, 172800 + 59]
        shown = [duration(timedelta(seconds=seconds)) for seconds in spans]
        assert shown == ["0 s", "8 s", "1 min", "3 min 20 s", "2 h 5 min", "2 h", "3 d 4 h", "2 d"]


# What is stored is in one language


def pretend(monkeypatch) -> None:
    """Translate every message into a loud Spanish, so that what was translated can be seen."""

    def exclaim(message: str) -> str:
        return f"¡{message}!" if translation.get_language() == "es" else message

    monkeypatch.setattr(translation._trans, "gettext", exclaim)


def test_records_are_kept_in_english(project, present, operator, monkeypatch):
    pretend(monkeypatch)
    evaluation = make_evaluation(project, make_rival(project), present, wins=12, losses=4)
    with translation.override("es"):
        promotion = promote_version(
            project, evaluation.candidate, user=operator, evaluation=evaluation, collect=0
        )
        queued = request_cancel(make_run(project), operator)
        trigger = save_trigger(project, name="t", every_judgments=1, plan=[{"recipe": "dpo"}])
        Trigger.objects.update(plan=[{"recipe": "dpo", "settings": {"nonsense": 1}}], judgments_seen=0)
        trigger.refresh_from_db()
        (in_vain,) = fire_trigger(trigger)
    stored = [promotion.evidence["verdict"], queued.error_message, in_vain.error_message]
    assert stored[0].startswith("Not decided: rival stands 12 to 4")
    assert "¡" not in "".join(stored)


def test_notes_of_the_trainer_are_told_in_the_readers_language(project, monkeypatch):
    pretend(monkeypatch)
    run = make_run(project, "running")
    evaluation = Sentence("Evaluation %(number)s compares %(name)s.", {"number": 3, "name": "100% new"})
    add_note(run, 1, evaluation, "As it is: 5% left.")
    add_note(run, 1, counted("%(count)s prompt.", "%(count)s prompts.", count=2))
    make_event(run, "warning", message="The recipe's own words", sentences=["not the recipe's to say"])
    english = ["Evaluation 3 compares 100% new. As it is: 5% left.", "2 prompts.", "The recipe's own words"]
    assert [event.data["message"] for event in run.events.all()] == english
    assert [note.message for note in read_notes(run)] == english
    with translation.override("es"):
        told = [note.message for note in read_notes(run)]
    assert told == ["¡Evaluation 3 compares 100% new.! As it is: 5% left.", "2 prompts.", english[2]]


def test_how_a_run_was_cancelled_is_told_in_the_readers_language(project, operator, monkeypatch):
    pretend(monkeypatch)
    first = make_run(project)
    follower = make_run(project, after=first)
    request_cancel(first, operator)
    follower.refresh_from_db()
    kept = [first.error_message, follower.error_message, "Whatever else 100% is kept."]
    assert kept[0] == "Cancelled by operator before it started."
    assert kept[1] == "Run 1 (dpo), which this one follows, was cancelled."
    assert [retell(text, CANCELLATIONS) for text in kept] == kept
    with translation.override("es"):
        assert [retell(text, CANCELLATIONS) for text in kept] == [f"¡{kept[0]}!", f"¡{kept[1]}!", kept[2]]


# The words of the recipes


def test_descriptions_of_settings_are_shown_translated(monkeypatch):
    pretend(monkeypatch)
    with translation.override("es"):
        help_text = SettingsForm("dpo")["beta"].help_text
    assert "¡How strongly the model is held to its start.!" in help_text
    assert "DPO, arXiv 2305.18290, app. B" in help_text


@pytest.mark.parametrize(
    ("recipe", "field", "value", "problem"),
    [
        ("dpo", "learning_rate", "-1", "Should be greater than 0 (it is -1)."),
        ("dpo", "learning_rate", "2", "Should be less than or equal to 1 (it is 2)."),
        ("dpo", "learning_rate", "nan", "Should be a finite number (it is nan)."),
        ("dpo", "label_smoothing", "0.5", "Should be less than 0.5 (it is 0.5)."),
        ("dpo", "batch_size", "0", "Should be greater than or equal to 1 (it is 0)."),
        ("dpo", "batch_size", "2.5", "integer, got a number with a fractional part (it is 2.5)."),
        ("dpo", "batch_size", "many", "integer, unable to parse string as an integer (it is 'many')."),
        ("dpo", "beta", "much", "number, unable to parse string as a number (it is 'much')."),
    ],
)
def test_what_is_wrong_with_a_value_is_told_translated(monkeypatch, recipe, field, value, problem):
    pretend(monkeypatch)
    with translation.override("es"):
        form = SettingsForm(recipe, {f"s-{field}": value, "s-lora": ""})
        told = "".join(form.errors[field])
    assert told.endswith(f"{problem}!")
    assert told.startswith("¡Should be ")


@pytest.mark.skipif(not shutil.which("xgettext"), reason="needs gettext's tools")
def test_the_recipes_words_are_found_for_the_translators(settings, tmp_path: Path, monkeypatch):
    """Descriptions, labels and units of every setting are in the template of messages."""
    root = Path(__file__).resolve().parents[2]
    target = tmp_path / "tree"
    target.mkdir()
    (target / "training").symlink_to(root / "training")
    settings.LOCALE_PATHS = [tmp_path / "locale"]
    (tmp_path / "locale").mkdir()
    monkeypatch.chdir(target)
    call_command("makemessages", locale=["es"], symlinks=True, keep_pot=True, verbosity=0)
    catalogue = (tmp_path / "locale" / "es" / "LC_MESSAGES" / "django.po").read_text("utf-8")
    joined = re.sub(r'"\n"', "", catalogue)
    for recipe, spec in RECIPES.items():
        shown = settable_fields(recipe)
        fields = [(name, name, info) for name, info in spec.model_fields.items()]
        if "train" in spec.model_fields:
            fields += [
                (kind, f"train.{name}", info)
                for kind, part in TRAINED.items()
                for name, info in part.model_fields.items()
            ]
        for place, name, info in fields:
            if info.description:
                assert f'msgid "{info.description}"' in joined, (place, name)
            unit = (info.json_schema_extra or {}).get("unit")
            unseen = place not in shown and place not in TRAINED
            assert not unit or unseen or f'msgctxt "unit"\nmsgid "{unit}"' in joined, (place, name)
            if place in TRAINED:
                assert f'msgctxt "setting"\nmsgid "{setting_label(name)}"' in joined, (place, name)
    assert 'msgid "Evaluation %(number)s compares %(name)s with %(baseline)s."' in joined
    assert 'msgid_plural "%(count)s pairs of responses were put up for rating."' in joined
    assert 'msgctxt "setting"\nmsgid "Train: dropout"' in joined
    assert 'msgctxt "unit"\nmsgid "reward per nat"' in joined
