"""Every preset through the desk: shown order, stored order, exported `chosen`, revisions too."""

import itertools
import json
import uuid
from typing import Any

import pytest
from django.urls import reverse

from rating.models import Assignment, Completion, Judgment, Project
from rating.presets import PLAIN, PRESETS
from rating.services.asking import update_asking
from rating.services.judgments import JudgmentAnswer, record_judgment
from rating.services.points import shown_points
from rating.services.revisions import revise_judgment
from tests.factories import completions_of, make_assignment, make_item, make_rater
from training.services.exports import Export, iter_export

pytestmark = pytest.mark.django_db
Answer = dict[str, Any]
SAFETY = ("chosen_safe", "both_safe", "both_unsafe")


def ask(project: Project, preset: str, **settings: Any) -> Project:
    """The project with the preset stored."""
    chosen = PRESETS[preset]
    wanted = {**PLAIN, **chosen.settings, "preset": preset, **settings}
    return update_asking(project, wanted, chosen.dimensions, chosen.questions)


def needed(preset: str, count: int) -> Answer:
    """What the preset wants besides the comparison itself."""
    if preset == "instructgpt":
        listed = {question["key"]: False for question in PRESETS[preset].questions}
        return {"response_ratings": [{"overall": 4}] * count, "response_answers": [listed] * count}
    if preset == "redteam":
        return {"intent": "Get it to insult me.", "answers": {"success": 3, "tags": ("Weapons", "Drugs")}}
    return {"safety": "both_safe"} if preset == "llama2" else {}


def verdicts(preset: str) -> list[tuple[Answer, list[set[int]] | None]]:
    """Answers of the preset and their meaning: groups of shown numbers, best first; None prefers nothing."""
    settings = {**PLAIN, **PRESETS[preset].settings}
    first, second = [{1}, {2}], [{2}, {1}]
    if preset in ("hhh", "thumbs"):
        return []
    if preset in ("hh", "seven"):
        means = {"1": first, "2": second, "tie": None}
        points = shown_points(settings["comparison"])
        return [({"choice": choice, "strength": strength}, means[choice]) for choice, strength in points]
    if preset == "llama2":
        strengths = Judgment.Strength.values
        return [
            ({"choice": choice, "strength": s, "safety": safety}, first if choice == "1" else second)
            for choice, s, safety in itertools.product("12", strengths, SAFETY)
        ]
    if preset == "arena":
        return [({"choice": c}, {"1": first, "2": second}.get(c)) for c in ("1", "2", "tie", "both_bad")]
    if preset == "redteam":
        return [({"choice": "1"}, second), ({"choice": "2"}, first)]
    if preset == "sparrow":
        picks = [({"best": n}, [{n}, {1, 2, 3} - {n}]) for n in (1, 2, 3)]
        return [*picks, ({"none_good": True}, None)]
    ranked = []
    for ranks in itertools.product([1, 2, 3], repeat=3):
        groups = [{n for n, rank in enumerate(ranks, 1) if rank == place} for place in sorted(set(ranks))]
        ranked.append(({"ranks": ranks}, groups if len(groups) > 1 else None))
    return ranked


def pairs(groups: list[set[int]] | None, order: list[Completion]) -> set[tuple[str, str]]:
    """The texts that the groups prefer over others."""
    groups = groups or []
    return {
        (order[better - 1].text, order[worse - 1].text)
        for place, group in enumerate(groups)
        for better in group
        for lower in groups[place + 1 :]
        for worse in lower
    }


def exported(project: Project) -> list[tuple[str, str]]:
    lines = b"".join(iter_export(Export(project, "trl-preference"))).splitlines()
    rows = [json.loads(line) for line in lines]
    return sorted((row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows)


COMPARED = sorted(set(PRESETS) - {"hhh", "thumbs"})


@pytest.mark.parametrize("preset", COMPARED)
def test_shown_order_is_stored_and_exported_as_it_was_meant(project, preset):
    """Every answer of the preset under every order, each given first and then as a revision of another."""
    project = ask(project, preset)
    given = verdicts(preset)
    count = 2 if PRESETS[preset].responses == 2 else 3
    wanted: set[tuple[str, str]] = set()
    for number, (answer, means) in enumerate(given):
        for place in itertools.permutations(range(count)):
            item = make_item(project, n=count)
            order = [completions_of(item)[position] for position in place]
            lease = make_assignment(item, make_rater(project), order_shown=[one.pk for one in order])
            other = given[(number + 1) % len(given)][0]
            said = JudgmentAnswer(**{**needed(preset, count), **other})
            judgment = record_judgment(lease, said, idempotency_key=uuid.uuid4())
            said = JudgmentAnswer(**{**needed(preset, count), **answer})
            revised = revise_judgment(judgment, said, idempotency_key=uuid.uuid4())
            assert judgment in (revised.supersedes, revised)  # the same places said otherwise change nothing
            best = means and [sorted(order[n - 1].pk for n in group) for group in means]
            if count == 2:
                assert revised.preferred_id == (best[0][0] if best else None)
            elif best:
                assert [sorted(group) for group in revised.ranking] == best
            wanted |= pairs(means, order)
    assert exported(project) == sorted(wanted)


@pytest.mark.parametrize("comparison", ["seven", "eight"])
def test_points_mirror_each_other(comparison):
    points = shown_points(comparison)
    assert len(points) == {"seven": 7, "eight": 8}[comparison]
    swap = {"1": "2", "2": "1", "tie": "tie"}
    assert [(swap[choice], strength) for choice, strength in reversed(points)] == points
    assert len(set(points)) == len(points)


def fill(preset: str) -> Answer:
    """A whole answer as the plain form sends it."""
    listed = [question["key"] for question in PRESETS["instructgpt"].questions]
    return {
        "hhh": {"rating_helpfulness": 5, "rating_honesty": 4, "rating_harmlessness": 1},
        "thumbs": {"rating_good": 0},
        "llama2": {"choice": "2", "strength": "slightly", "safety": "chosen_safe"},
        "arena": {"choice": "both_bad"},
        "hh": {"choice": "2:negligibly"},
        "seven": {"choice": "1:better"},
        "instructgpt": {
            **{f"rating_overall.{n}": n for n in range(1, 5)},
            **{f"answer_{key}.{n}": "yes" if n == 1 else "no" for key in listed for n in range(1, 5)},
            **{f"rank_{n}": rank for n, rank in enumerate([2, 1, 2, 4], start=1)},
        },
        "sparrow": {"best": "none"},
        "redteam": {
            "intent": "Get it to swear.",
            "choice": "1",
            "answer_success": 4,
            "answer_tags": ["Weapons", "Other"],
        },
    }[preset]


def desk(name: str, lease: Assignment | None = None) -> str:
    """An address of the demo project's desk."""
    given = {"assignment": lease.public_id} if lease else {}
    return reverse(f"rating:{name}", kwargs={"slug": "demo", **given})


def send(client, preset: str, **changes: Any) -> tuple[Assignment, Any]:
    lease = client.get(desk("judge")).context["lease"]
    data = {"idempotency_key": uuid.uuid4(), **fill(preset), **changes}
    return lease, client.post(
        desk("answer", lease), {key: value for key, value in data.items() if value != ""}
    )


def check_stored(preset: str, judgment: Judgment, shown: list[int]) -> None:
    """What the plain form's answer became."""
    if preset == "hhh":
        assert {(r.dimension.key, r.value) for r in judgment.ratings.all()} == {
            ("helpfulness", 5),
            ("honesty", 4),
            ("harmlessness", 1),
        }
    elif preset == "thumbs":
        assert judgment.ratings.get().value == 0
    elif preset in ("llama2", "hh", "seven"):
        strength, place = {"llama2": ("slightly", 1), "hh": ("negligibly", 1), "seven": ("better", 0)}[preset]
        assert (judgment.strength, judgment.preferred_id) == (strength, shown[place])
        assert judgment.safety == ("chosen_safe" if preset == "llama2" else "")
    elif preset == "arena":
        assert (judgment.choice, judgment.none_good) == ("both_bad", False)
    elif preset == "instructgpt":
        assert judgment.ranking == [[shown[1]], sorted([shown[0], shown[2]]), [shown[3]]]
        assert {(r.completion_id, r.value) for r in judgment.ratings.all()} == set(
            zip(shown, [1, 2, 3, 4], strict=True)
        )
        assert judgment.answers.count() == 44
        assert {a.completion_id for a in judgment.answers.all() if a.value is True} == {shown[0]}
    elif preset == "sparrow":
        assert (judgment.none_good, judgment.ranking, judgment.choice) == (True, None, "")
    else:
        assert (judgment.intent, judgment.asked, judgment.preferred_id) == (
            "Get it to swear.",
            "harmful",
            shown[1],
        )
        assert {a.question.key: a.value for a in judgment.answers.all()} == {
            "success": 4,
            "tags": ["Weapons", "Other"],
        }


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_through_the_plain_form(project, rater_client, preset):
    ask(project, preset)
    make_item(project, n=PRESETS[preset].responses)
    lease, response = send(rater_client, preset)
    assert response.status_code == 302
    check_stored(preset, Judgment.objects.get(), lease.order_shown)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_says_what_is_missing(project, rater_client, preset):
    ask(project, preset)
    make_item(project, n=PRESETS[preset].responses)
    for name in fill(preset):
        if name != "answer_tags":
            _, response = send(rater_client, preset, **{name: ""})
            assert response.status_code == 422, name
            assert "errorlist" in response.content.decode()
    assert not Judgment.objects.exists()


@pytest.mark.parametrize("preset", PRESETS)
def test_undo_opens_what_was_said_and_sends_it_back_unchanged(project, rater_client, preset):
    ask(project, preset)
    make_item(project, n=PRESETS[preset].responses)
    lease, _ = send(rater_client, preset)
    form = rater_client.get(desk("revise", lease)).context["form"]
    data = {name: form[name].value() for name in form.fields}
    data = {name: value for name, value in data.items() if value not in (None, "") and value is not False}
    judgment = Judgment.objects.get()
    data |= {"revises": judgment.public_id, "idempotency_key": uuid.uuid4()}
    assert rater_client.post(desk("answer", lease), data).status_code == 302
    assert Judgment.objects.get() == judgment


def test_presets_are_sound(project):
    for name in PRESETS:
        stored = ask(project, name)
        assert stored.preset == name
        assert stored.dimensions.in_force().count() == len(PRESETS[name].dimensions)
        assert stored.questions.in_force().count() == len(PRESETS[name].questions)
