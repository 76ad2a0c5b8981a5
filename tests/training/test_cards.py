"""The data card: counts by hand, scripts, gaps."""

import pytest
from django.utils import translation

from tests.factories import make_item, make_judgment, make_prompt, make_rater
from training.services.cards import find_gaps, guess_script, tell_gap
from training.services.snapshots import freeze_snapshot


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("What is this?", "Latin"),
        ("Où est-ce, là-bas ?", "Latin"),
        ("Что это такое?", "Cyrillic"),
        ("这是什么？", "Han"),
        ("これは何ですか", "Kana"),
        ("이것은 무엇", "Hangul"),
        ("ما هذا؟", "Arabic"),
        ("מה זה?", "Hebrew"),
        ("यह क्या है", "Devanagari"),
        ("Translate: это очень длинное предложение", "Cyrillic"),
        ("1 + 1 = ?", "other"),
        ("🙂🙂", "other"),
        ("", "other"),
    ],
)
def test_scripts(text, script):
    assert guess_script(text) == script


@pytest.mark.django_db
def test_a_card_counts_what_is_in_the_snapshot(project, settings, tmp_path):
    settings.SNAPSHOTS_DIR = tmp_path
    project.eval_percent = 0
    project.save()
    raters = [make_rater(project) for _ in range(2)]
    for choices in ("aa", "ab"):
        item = make_item(project, texts=["longer one", "short"], overlap=2)
        for rater, choice in zip(raters, choices, strict=True):
            make_judgment(item, rater, choice=choice, seconds=1800)
    make_judgment(make_item(project), choice="tie")
    make_prompt(project, "Это не оценено")
    card = freeze_snapshot(project).counts["card"]
    assert card["judgments"] == 4
    assert card["prompts"] == {"all": 4, "judged": 2}
    assert card["agreement"] == {"share": 0.5, "pairs": 2}
    assert card["hours"] == 2.0
    assert [(rater["judgments"], rater["agreed"], rater["compared"]) for rater in card["raters"]] == [
        (2, 1, 2)
    ] * 2
    assert card["scripts"] == {"Latin": 2}
    assert card["chosen_longer"] == 0.75
    assert card["lengths"]["chosen"] == {"3": 1, "4": 3}  # 5 characters, and 10
    assert [key for key, _ in card["gaps"]] == ["low_agreement", "few_eval", "longer_wins", "one_script"]


def test_gaps_are_found_and_told():
    card = {
        "judgments": 10,
        "agreement": {"share": None, "pairs": 0},
        "raters": [{"judgments": 8}, {"judgments": 2}],
        "chosen_longer": None,
        "timed": 4,
        "scripts": {},
    }
    gaps = find_gaps(card, {"train": 10, "eval": 200}, ties=5)
    assert gaps == [["no_overlap", None], ["busy_rater", 0.8], ["many_ties", 5], ["untimed", 6]]
    with translation.override("en"):
        told = [tell_gap(gap) for gap in gaps]
    assert told[1] == "One rater gave 80% of the judgments."
    assert told[3].startswith("6 judgments do not say how long they took")
    assert tell_gap(["from the future", 1]) == "from the future"
