"""The wheel turns once, in a real browser on a real server, with nothing mocked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.axe import AXE, RUN_AXE, STANDARDS, faults_of, walk_links
from tests.browser.conftest import Installation
from tests.browser.people import Person, Rater, someone
from training.demo.manners import Manner, classify_manner

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

FORTY = 40
# One item is on the desk and the next is at hand when something more urgent arrives.
ON_THE_DESK = 2
RUN_MS = 240_000
POLLED_MS = 15_000


def test_the_wheel_turns_once(installation: Installation, browser: Any) -> None:
    with (
        someone(Rater, browser, installation, "rater") as rater,
        someone(Person, browser, installation, "operator") as operator,
    ):
        rate_forty_by_keyboard(rater, operator)
        watch_the_runs(operator)
        compare_blind(rater, operator)
        promote(operator)
        rate_what_the_new_version_wrote(rater)
        start_by_hand_and_cancel(operator)
        undo(operator)


@pytest.mark.skipif(not AXE.exists(), reason="tests/browser/vendor/axe.min.js is not there")
@pytest.mark.parametrize("name", ["rater", "operator", "admin"])
def test_pages_are_for_everybody(installation: Installation, browser: Any, name: str) -> None:
    """After a turn there is something on every page."""
    with someone(Person, browser, installation, name) as person:
        pages = walk_links(person)
        assert len(pages) >= {"rater": 3, "operator": 10, "admin": 10}[name], pages
        faults = [fault for path in pages for fault in faults_of(person, path)]
        assert faults == []


@pytest.mark.skipif(not AXE.exists(), reason="tests/browser/vendor/axe.min.js is not there")
def test_sign_in_page_is_for_everybody(installation: Installation, browser: Any) -> None:
    page = browser.new_context(viewport={"width": 360, "height": 800}).new_page()
    page.goto(f"{installation.address}/account/login/")
    page.evaluate(AXE.read_text())
    assert page.evaluate(RUN_AXE, STANDARDS) == []
    page.context.close()


def rate_forty_by_keyboard(rater: Rater, operator: Person) -> None:
    """Pairs first, then single responses; the operator sees the trigger count without reloading."""
    operator.go("/projects/demo/training/")
    expect(operator.page.get_by_text(f"0 of {FORTY} new judgments")).to_be_visible()
    rater.open_desk()
    assert "demo base" not in rater.page.content()
    rater.press_answer()
    rater.picture("rate-pair")
    rater.rate(FORTY // 2)
    expect(operator.page.get_by_text(f"{FORTY // 2} of {FORTY} new judgments")).to_be_visible(
        timeout=POLLED_MS
    )
    operator.picture("countdown")
    rater.rate(32 - FORTY // 2)
    assert len(rater.shown()) == 1
    rater.press_answer()
    rater.picture("rate-single")
    rater.rate(8)
    judgments = rater.installation.query("SELECT count(*) FROM rating_judgment")
    assert judgments == [(FORTY,)]


def watch_the_runs(operator: Person) -> None:
    """The trigger fires; reward model and DPO run to success under the operator's eyes."""
    page = operator.page
    expect(page.get_by_role("link", name=re.compile("^Run 1:")).first).to_be_visible(timeout=POLLED_MS)
    for number, recipe in ((1, "reward"), (2, "dpo")):
        operator.go(f"/projects/demo/runs/{number}/")
        expect(page.locator("#steps")).to_contain_text("Step", timeout=RUN_MS)
        expect(page.locator("#progress .badge").first).to_have_text("Succeeded", timeout=RUN_MS)
        page.reload()
        assert page.locator("#progress svg, main svg").count() > 0
        operator.picture(f"run-{recipe}")
    rows = operator.installation.query("SELECT recipe, state FROM training_trainingrun ORDER BY number")
    assert rows[:2] == [("reward", "succeeded"), ("dpo", "succeeded")]
    expect(page.get_by_text("It made policy-2")).to_be_visible()


def compare_blind(rater: Rater, operator: Person) -> None:
    """Both versions answer the same held-out prompts by themselves; the rater judges, blind."""
    page, query = operator.page, operator.installation.query
    operator.installation.wait_for(
        lambda: query("SELECT state FROM training_evaluation") == [("open",)], RUN_MS / 1000
    )
    rater.open_desk()
    assert "policy-2" not in rater.page.content()
    assert "evaluat" not in rater.page.locator("#desk").inner_html().lower()
    ((count,),) = query("SELECT count(*) FROM training_evaluationitem")
    assert count >= 20
    rater.rate(ON_THE_DESK + count)
    operator.go("/projects/demo/evaluations/1/")
    expect(page.locator(".stat-label", has_text="win rate of the candidate")).to_be_visible()
    operator.picture("evaluation")
    ((wins, losses),) = query(
        """
        SELECT sum((judgment.choice = 'a') = (place.candidate_position = 0)),
               sum((judgment.choice = 'a') <> (place.candidate_position = 0))
        FROM rating_judgment judgment
        JOIN training_evaluationitem place ON place.item_id = judgment.item_id
        WHERE judgment.choice IN ('a', 'b')
        """
    )
    assert wins > 2 * losses
    assert f"{wins} : {losses}" in operator.text()


def promote(operator: Person) -> None:
    """The operator promotes; the new user model answers fresh prompts."""
    page, query = operator.page, operator.installation.query
    operator.go("/projects/demo/versions/")
    page.get_by_role("link", name="Promote").click()
    page.fill("[name=reason]", "It won the blind comparison.")
    # Thirty comparisons may not decide it; then the page asks whether it is meant all the same.
    for box in page.locator("main form input[type=checkbox]").all():
        box.check()
    operator.picture("promote")
    page.get_by_role("button", name="Promote it").click()
    expect(page.get_by_role("heading", name="policy-2 became the user model")).to_be_visible()
    operator.installation.wait_for(
        lambda: query("SELECT state FROM training_trainingrun WHERE purpose = 'collect'") == [("succeeded",)],
        RUN_MS / 1000,
    )
    responses = query(
        """
        SELECT completion.text FROM rating_completion completion
        JOIN rating_itemcompletion place ON place.completion_id = completion.id
        JOIN rating_item item ON item.id = place.item_id
        JOIN rating_modelversion version ON version.id = completion.model_version_id
        WHERE item.purpose = 'collect' AND version.name = 'policy-2'
        """
    )
    warm = sum(classify_manner(text) is Manner.WARM for (text,) in responses)
    assert len(responses) >= 20
    assert warm / len(responses) > 0.5, f"{warm} of {len(responses)} are warm"


def rate_what_the_new_version_wrote(rater: Rater) -> None:
    """What comes next at the desk was written by the promoted version."""
    rater.open_desk()
    rater.picture("next-round")
    rater.rate(ON_THE_DESK + 3)
    newest = rater.installation.query(
        """
        SELECT DISTINCT version.name FROM rating_judgment judgment
        JOIN rating_itemcompletion place ON place.item_id = judgment.item_id
        JOIN rating_completion completion ON completion.id = place.completion_id
        JOIN rating_modelversion version ON version.id = completion.model_version_id
        WHERE judgment.id IN (SELECT id FROM rating_judgment ORDER BY id DESC LIMIT 3)
        """
    )
    assert newest == [("policy-2",)]


def start_by_hand_and_cancel(operator: Person) -> None:
    """A PPO run with settings of one's own, started by hand, is cancelled in the middle."""
    page = operator.page
    operator.go("/projects/demo/runs/new/?recipe=ppo")
    page.fill("[name=s-steps]", "500")
    operator.picture("new-run")
    page.get_by_role("button", name="Queue the run").click()
    expect(page.locator("#steps")).to_contain_text("of 500", timeout=RUN_MS)
    page.get_by_role("button", name="Cancel the run").first.click()
    page.locator("#cancel-run").get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#progress .badge").first).to_have_text("Cancelled", timeout=RUN_MS)
    rows = operator.installation.query(
        "SELECT recipe, state FROM training_trainingrun ORDER BY number DESC LIMIT 1"
    )
    assert rows == [("ppo", "cancelled")]


def undo(operator: Person) -> None:
    """The promotion is undone; the version before it is the user model again."""
    page = operator.page
    operator.go("/projects/demo/versions/")
    page.get_by_text("Undo it").click()
    page.fill("#undo-reason", "Only to show that it can be undone.")
    page.get_by_role("button", name="Undo the promotion").click()
    expect(page.get_by_role("heading", name="Undone: back to demo base")).to_be_visible()
    present = operator.installation.query(
        """
        SELECT version.name FROM training_promotion promotion
        JOIN rating_modelversion version ON version.id = promotion.model_version_id
        ORDER BY promotion.id DESC LIMIT 1
        """
    )
    assert present == [("demo base",)]
