"""Blind comparisons: what is sampled, shown and counted."""

import json
import random
import uuid

import pytest
from django.utils import timezone

from rating.models import Item, Judgment, ModelVersion, Split
from rating.services.items import create_item
from tests.factories import (
    make_completion,
    make_judgment,
    make_model_version,
    make_project,
    make_prompt,
    make_rater,
)
from training.models import Evaluation, EvaluationItem, TrainingRun
from training.services.evaluations import (
    EvaluationError,
    close_evaluation,
    evaluation_result,
    evaluation_results,
    open_evaluation,
    start_evaluation,
)
from training.services.runs import request_cancel
from training.services.sampling import EVALUATION_PRIORITY


@pytest.fixture
def candidate(project, present) -> ModelVersion:
    """A policy that is not promoted."""
    return make_model_version(project, "policy-1", parent=present)


@pytest.fixture
def held_out(project) -> list:
    """Five prompts that are held out."""
    prompts = [make_prompt(project) for _ in range(5)]
    type(prompts[0]).objects.filter(project=project).update(split=Split.EVAL)
    return prompts


@pytest.fixture
def evaluation(project, candidate, held_out) -> Evaluation:
    """An evaluation whose responses are being written."""
    return start_evaluation(project, candidate)


def write_samples(run: TrainingRun, answers: dict[str, tuple[str, str]], **fields: object) -> None:
    """samples.jsonl with the candidate's and the baseline's answer per prompt id."""
    path = run.directory / "output" / "samples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    sampling = {"index": 0, "temperature": 0.7, "top_p": 1.0, "seed": 3, "tokens": 4, "finished": True}
    rows = [
        {"model": model, "prompt_id": key, "response": text, "reward": float(len(text)), **sampling, **fields}
        for place, model in enumerate(("candidate", "baseline"))
        for key, texts in answers.items()
        for text in (texts[place],)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def judge(place: EvaluationItem, verdict: str) -> Judgment:
    """A judgment in the candidate's words: win, loss, tie or both_bad."""
    side = {"win": place.candidate_position, "loss": 1 - place.candidate_position}.get(verdict)
    return make_judgment(place.item, choice=verdict if side is None else "ab"[side])


def compare(project, candidate, baseline, verdicts, same=0) -> Evaluation:
    """An open evaluation with one judgment per verdict ("" for none yet)."""
    number = Evaluation.objects.filter(project=project).count() + 1
    evaluation = Evaluation.objects.create(
        project=project,
        number=number,
        candidate=candidate,
        baseline=baseline,
        state=Evaluation.State.OPEN,
        same_responses=same,
    )
    for index, verdict in enumerate(verdicts):
        prompt = make_prompt(project)
        pair = [make_completion(prompt, model_version=version) for version in (candidate, baseline)]
        position = index % 2
        item = create_item(project, prompt, pair[::-1] if position else pair, purpose=Item.Purpose.EVALUATE)
        place = EvaluationItem.objects.create(
            evaluation=evaluation,
            item=item,
            candidate_position=position,
            candidate_reward=2.0,
            baseline_reward=index,
        )
        if verdict:
            judge(place, verdict)
    return evaluation


def test_starting_queues_the_sampling_run(project, present, candidate, evaluation, operator):
    run = evaluation.sampling_run
    assert (evaluation.number, evaluation.state) == (1, Evaluation.State.SAMPLING)
    assert (evaluation.candidate, evaluation.baseline) == (candidate, present)
    assert (run.recipe, run.purpose, run.policy) == ("sample", TrainingRun.Purpose.EVALUATE, candidate)
    assert run.settings["limit"] == 30
    assert run.settings["max_new_tokens"] == 64, "half of the base model's context of 128"


def test_what_cannot_be_compared_is_refused(project, present, candidate):
    reward = make_model_version(project, kind=ModelVersion.Kind.REWARD)
    stranger = make_model_version(make_project())
    with pytest.raises(EvaluationError, match="prompts: The project has no held-out prompts"):
        start_evaluation(project, candidate)
    for version, words in (
        (reward, "reward model"),
        (stranger, "another project"),
        (present, "baseline itself"),
    ):
        with pytest.raises(EvaluationError, match=words):
            start_evaluation(project, version)
    with pytest.raises(EvaluationError, match="no user model"):
        start_evaluation(stranger.project, stranger)
    assert not Evaluation.objects.exists()
    assert not TrainingRun.objects.exists()


def test_the_same_comparison_is_not_started_twice(project, candidate, evaluation):
    with pytest.raises(EvaluationError, match="Evaluation 1 compares these two already"):
        start_evaluation(project, candidate)
    Evaluation.objects.update(state=Evaluation.State.CLOSED)
    assert start_evaluation(project, candidate).number == 2


def test_opening_makes_blind_items(project, present, candidate, held_out, evaluation):
    keys = [prompt.text_hash for prompt in held_out]
    answers = {key: (f"candidate {n}", f"baseline no. {n}") for n, key in enumerate(keys)}
    answers[keys[0]] = ("alike", "alike")
    answers[keys[1]] = ("a NUL \x00", "fine")
    write_samples(evaluation.sampling_run, answers)
    opened = open_evaluation(evaluation.sampling_run)
    assert (opened.state, opened.same_responses) == (Evaluation.State.OPEN, 1)
    places = list(opened.places.select_related("item"))
    assert len(places) == 3
    for place in places:
        item = place.item
        assert (item.purpose, item.priority) == (Item.Purpose.EVALUATE, EVALUATION_PRIORITY)
        written = [place.completion for place in item.places.select_related("completion")]
        assert written[place.candidate_position].model_version == candidate
        assert written[1 - place.candidate_position].model_version == present
        assert written[0].sampling["temperature"] == 0.7
        assert place.candidate_reward == len(written[place.candidate_position].text)


def test_the_candidates_position_is_drawn(project, candidate, evaluation):
    random.seed(5)
    prompts = [make_prompt(project) for _ in range(40)]
    write_samples(evaluation.sampling_run, {prompt.text_hash: ("yes", "no") for prompt in prompts})
    opened = open_evaluation(evaluation.sampling_run)
    first = opened.places.filter(candidate_position=0).count()
    assert 10 < first < 30
    lower = [
        place.candidate_position
        for place in opened.places.prefetch_related("item__places")
        if place.item.places.all()[0].completion_id < place.item.places.all()[1].completion_id
    ]
    assert len(lower) == 40, "ids follow the order drawn, not who wrote what"
    assert set(lower) == {0, 1}


def test_an_evaluation_with_nothing_to_show_is_closed(project, held_out, evaluation):
    write_samples(evaluation.sampling_run, {prompt.text_hash: ("alike", "alike") for prompt in held_out})
    opened = open_evaluation(evaluation.sampling_run)
    assert (opened.state, opened.same_responses) == (Evaluation.State.CLOSED, 5)
    result = evaluation_result(opened)
    assert (result.win_rate, result.judged, result.total, result.decided) == (0.5, 5, 5, False)
    assert result.verdict == "policy-1 and base answered every prompt alike."


def test_cancelled_sampling_fails_the_evaluation(evaluation, operator):
    request_cancel(evaluation.sampling_run, operator)
    evaluation.refresh_from_db()
    assert evaluation.state == Evaluation.State.FAILED
    assert "nothing to compare" in evaluation_result(evaluation).verdict


def test_figures_by_hand(project, present, candidate):
    verdicts = ["win"] * 5 + ["loss"] * 2 + ["tie", "both_bad", ""]
    evaluation = compare(project, candidate, present, verdicts, same=1)
    result = evaluation_result(evaluation)
    assert (result.wins, result.losses, result.ties, result.both_bad) == (5, 2, 3, 1)
    assert (result.judged, result.total) == (10, 11)
    # (5 + 3 / 2) / 10; Wilson at 6.5 of 10: (0.842073 -+ 0.352541) / 1.384146.
    assert result.win_rate == 0.65
    assert result.low == pytest.approx(0.353671, abs=2e-6)
    assert result.high == pytest.approx(0.863070, abs=2e-6)
    # 2^7 B(15, 12) / B(10, 10) = 128 (10 11 12 13 14)(10 11) / (20 21 22 23 24 25 26).
    assert result.e_value == pytest.approx(128 * 240240 * 110 / (20 * 21 * 22 * 23 * 24 * 25 * 26))
    assert not result.decided
    # Candidate 2.0 against 0 to 9: two wins, one equal, seven losses; equal answers: (2.5 + 0.5) / 11.
    assert result.reward_win_rate == pytest.approx(3 / 11)
    assert "Not decided: policy-1 stands 5 to 2 against base" in result.verdict
    assert json.loads(json.dumps(result.as_evidence()))["wins"] == 5


@pytest.mark.parametrize(
    ("wins", "losses", "words"),
    [(25, 3, "policy-1 is better than base: 25 to 3."), (3, 25, "is worse than base: 3")],
)
def test_a_clear_result_decides(project, present, candidate, wins, losses, words):
    evaluation = compare(project, candidate, present, ["win"] * wins + ["loss"] * losses)
    result = evaluation_result(evaluation)
    assert result.decided
    assert words in result.verdict


def test_nothing_judged_yet(project, present, candidate):
    result = evaluation_result(compare(project, candidate, present, ["", ""], same=1))
    assert (result.win_rate, result.judged, result.total, result.e_value) == (0.5, 1, 3, 1.0)
    assert result.verdict == "Nobody has compared the responses yet."
    empty = evaluation_result(compare(project, candidate, present, [""]))
    assert (empty.win_rate, empty.low, empty.high) == (None, None, None)


def test_a_revision_counts_once(project, present, candidate):
    evaluation = compare(project, candidate, present, ["win"])
    first = Judgment.objects.get()
    Judgment.objects.create(
        item=first.item,
        rater=first.rater,
        supersedes=first,
        idempotency_key=uuid.uuid4(),
        choice="tie",
        judged_at=timezone.now(),
    )
    result = evaluation_result(evaluation)
    assert (result.wins, result.ties, result.judged) == (0, 1, 1)


def test_overlapping_judgments_all_count(project, present, candidate):
    project.overlap = 3
    project.save()
    evaluation = compare(project, candidate, present, ["win"])
    place = evaluation.places.get()
    judge(place, "loss")
    result = evaluation_result(evaluation)
    assert (result.wins, result.losses, result.total) == (1, 1, 3)


def test_kl_comes_from_the_sampling_run(evaluation):
    TrainingRun.objects.update(result={"metrics": {"candidate/kl": 0.25, "baseline/kl": 0.125}})
    result = evaluation_result(evaluation)
    assert (result.mean_kl, result.baseline_mean_kl) == (0.25, 0.125)


def test_queries_do_not_grow(project, present, candidate, django_assert_num_queries):
    one = [compare(project, candidate, present, ["win"])]
    three = [compare(project, candidate, present, ["win", "loss", "tie"]) for _ in range(3)]
    with django_assert_num_queries(4):
        evaluation_results(one)
    with django_assert_num_queries(4):
        evaluation_results(three)


def test_closing_takes_the_items_out_of_the_queue(project, present, candidate):
    evaluation = compare(project, candidate, present, ["win", "", ""])
    make_rater(project)
    closed = close_evaluation(evaluation)
    assert closed.state == Evaluation.State.CLOSED
    assert closed.closed_at is not None
    assert set(closed.items.values_list("open_slots", flat=True)) == {0}
    assert close_evaluation(closed).closed_at == closed.closed_at


def test_only_an_open_one_can_be_closed(evaluation):
    with pytest.raises(EvaluationError, match="writing responses"):
        close_evaluation(evaluation)
