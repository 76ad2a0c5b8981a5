"""The family of versions, evaluations, promotions and their undoing."""

import pytest
from django.urls import reverse
from django.utils import timezone

from rating.models import ModelVersion, Role
from tests.conftest import signed_in
from tests.factories import make_membership, make_prompt
from tests.training.conftest import write_model
from tests.training.rows import make_evaluation, make_rival, make_run
from training.family import order_family
from training.models import Evaluation, Promotion, TrainingRun
from training.services.versions import user_model

HOSTILE = "<script>alert(1)</script>"


def address(project, name, **kwargs):
    return reverse(f"training:{name}", kwargs={"slug": project.slug, **kwargs})


def test_an_empty_family_says_how_to_begin(operator_client, project):
    html = operator_client.get(address(project, "versions")).content.decode()
    assert "No model versions yet" in html
    assert "Add a base model" in html


def test_the_family_shows_descent_run_and_fate(operator_client, project, present):
    run = make_run(project, "succeeded", policy=present)
    child = make_rival(project, "child", parent=present, files={"model.safetensors": "a" * 64})
    run.model_version = child
    run.save()
    make_evaluation(project, child, present, wins=30, losses=2, state=Evaluation.State.CLOSED)
    html = operator_client.get(address(project, "versions")).content.decode()
    assert 'class="card stack tight generation-1"' in html
    assert "run 1 (dpo)" in html
    assert "win rate 93.8%" in html
    assert "Won" in html
    assert "a" * 64 in html


def test_children_come_after_their_parent():
    def version(pk, parent=None):
        return ModelVersion(pk=pk, parent_id=parent)

    ordered = order_family(
        [version(1), version(2), version(3, 1), version(4, 3), version(5, 1), version(6, 2)]
    )
    assert [(depth, member.pk) for depth, member in ordered] == [
        (0, 1),
        (1, 3),
        (2, 4),
        (1, 5),
        (0, 2),
        (1, 6),
    ]


def test_a_very_long_line_is_drawn_no_deeper_than_it_can():
    line = [ModelVersion(pk=pk, parent_id=pk - 1 or None) for pk in range(1, 2000)]
    assert max(depth for depth, _ in order_family(line)) == 6


def test_queries_do_not_grow_with_the_versions(
    operator_client, project, present, django_assert_num_queries, django_assert_max_num_queries
):
    def add_one():
        child = make_rival(project, f"child {timezone.now()}", parent=present)
        make_run(project, "succeeded", model_version=child, policy=present)
        evaluation = make_evaluation(project, child, present, wins=2, losses=1)
        Promotion.objects.create(
            project=project, model_version=child, replaced=present, evaluation=evaluation
        )

    add_one()
    with django_assert_max_num_queries(25) as first:
        operator_client.get(address(project, "versions"))
    add_one()
    add_one()
    with django_assert_num_queries(len(first)):
        operator_client.get(address(project, "versions"))


def test_names_are_shown_as_text(operator_client, project, base):
    make_rival(project, HOSTILE)
    assert HOSTILE not in operator_client.get(address(project, "versions")).content.decode()


# Adding


def test_add_a_base_model(operator_client, project, tmp_path):
    path = write_model(tmp_path / "new")
    response = operator_client.post(address(project, "add_version"), {"name": "new", "base": str(path)})
    assert response.status_code == 302
    assert ModelVersion.objects.get().name == "new"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": "", "base": "owner/name"}, "name"),
        ({"name": "x", "base": "/no/such/directory"}, "base"),
        ({"name": "x", "base": ""}, "base"),
        ({"name": "base", "base": "owner/name"}, "name"),
    ],
)
def test_a_bad_base_model_is_refused_at_its_field(operator_client, project, base, data, field):
    response = operator_client.post(address(project, "add_version"), data)
    assert response.status_code == 422
    assert list(response.context["base_form"].errors) == [field]
    assert ModelVersion.objects.count() == 1


# Comparing


@pytest.fixture
def held_out(project):
    """Prompts enough that some are held out."""
    for index in range(40):
        make_prompt(project, f"What is {index}?")


def test_start_an_evaluation(operator_client, project, present, held_out):
    rival = make_rival(project, base=present.base)
    response = operator_client.post(address(project, "start_evaluation", pk=rival.pk), {"prompts": 5})
    evaluation = Evaluation.objects.get()
    assert response.headers["Location"] == address(project, "evaluation", number=1)
    assert (evaluation.candidate, evaluation.baseline) == (rival, present)
    assert evaluation.sampling_run.settings["limit"] == 5


@pytest.mark.parametrize("prompts", ["0", "", "x", "10001"])
def test_a_bad_number_of_prompts_is_refused(operator_client, project, present, held_out, prompts):
    rival = make_rival(project, base=present.base)
    response = operator_client.post(address(project, "start_evaluation", pk=rival.pk), {"prompts": prompts})
    assert response.status_code == 422
    assert "Prompts: " in response.content.decode()
    assert not Evaluation.objects.exists()


def test_the_user_model_is_not_compared_with_itself(operator_client, project, present, held_out):
    response = operator_client.post(address(project, "start_evaluation", pk=present.pk), {"prompts": 5})
    assert response.status_code == 422
    assert "is the baseline itself" in response.content.decode()


def test_write_responses(operator_client, project, present, held_out):
    response = operator_client.post(address(project, "write_responses", pk=present.pk), {"count": 7})
    run = TrainingRun.objects.get()
    assert response.headers["Location"] == address(project, "run", number=run.number)
    assert (run.purpose, run.settings["limit"]) == ("collect", 7)
    bad = operator_client.post(address(project, "write_responses", pk=present.pk), {"count": 0})
    assert bad.status_code == 422


# The page of an evaluation


def test_an_evaluation_shows_its_figures(operator_client, project, present):
    evaluation = make_evaluation(project, make_rival(project), present, wins=12, losses=4, unjudged=4)
    html = operator_client.get(address(project, "evaluation", number=evaluation.number)).content.decode()
    assert "16 of 20 judged" in html
    assert "75.0%" in html
    assert "12 : 4" in html
    assert "agrees with people on 75.0% of 16" in html
    assert "a draw is 50%" in html
    assert 'hx-trigger="every 5s"' in html


def test_open_evaluations_show_only_what_is_fully_judged(operator_client, project, present):
    evaluation = make_evaluation(project, make_rival(project), present, wins=1, unjudged=1)
    path = address(project, "evaluation", number=evaluation.number)
    html = operator_client.get(path).content.decode()
    assert "good 1.0" in html
    assert "good 1.1" not in html
    assert operator_client.post(address(project, "close_evaluation", number=1)).status_code == 302
    html = operator_client.get(path).content.decode()
    assert "good 1.1" in html
    assert "hx-trigger" not in html


def test_who_rates_sees_no_texts_before_the_end(project, operator, present):
    make_membership(project, operator, Role.RATER)
    evaluation = make_evaluation(project, make_rival(project), present, wins=1)
    path = address(project, "evaluation", number=evaluation.number)
    client = signed_in(operator)
    html = client.get(path).content.decode()
    assert "good 1.0" not in html
    assert "no longer judges blind" in html
    client.post(address(project, "close_evaluation", number=1))
    assert "good 1.0" in client.get(path).content.decode()


@pytest.mark.parametrize("state", ["sampling", "failed"])
def test_evaluations_without_responses(operator_client, project, present, state):
    evaluation = make_evaluation(project, make_rival(project), present, state=state)
    html = operator_client.get(address(project, "evaluation", number=evaluation.number)).content.decode()
    assert "Prompts and responses" not in html
    response = operator_client.post(address(project, "close_evaluation", number=1), follow=True)
    assert "cannot be closed" in response.content.decode()
    evaluation.refresh_from_db()
    assert evaluation.state == state


def test_queries_do_not_grow_with_the_prompts(
    operator_client, project, present, django_assert_num_queries, django_assert_max_num_queries
):
    make_evaluation(project, make_rival(project), present, wins=1, state=Evaluation.State.CLOSED)
    make_evaluation(
        project, make_rival(project, "b"), present, wins=2, losses=1, state=Evaluation.State.CLOSED
    )
    with django_assert_max_num_queries(25) as first:
        operator_client.get(address(project, "evaluation", number=1))
    with django_assert_num_queries(len(first)):
        operator_client.get(address(project, "evaluation", number=2))


def test_an_evaluation_is_polled(operator_client, project, present):
    make_evaluation(project, make_rival(project), present, wins=1, unjudged=1)
    path = address(project, "evaluation", number=1)
    headers = {"HX-Request": "true"}
    seen = operator_client.get(path).context["seen"]
    assert operator_client.get(f"{path}?seen={seen}", headers=headers).status_code == 204
    make_evaluation(project, make_rival(project, "b"), present)
    assert operator_client.get(f"{path}?seen=x", headers=headers).status_code == 200


# Promoting


def test_a_decided_evaluation_promotes_with_a_reason(operator_client, project, present, operator):
    rival = make_rival(project)
    evaluation = make_evaluation(project, rival, present, wins=30, losses=2)
    path = address(project, "promote", pk=rival.pk)
    html = operator_client.get(path).content.decode()
    assert "93.8%" in html
    assert 'name="confirm"' not in html
    assert operator_client.post(path, {"reason": ""}).status_code == 422
    assert user_model(project) == present
    assert operator_client.post(path, {"reason": "Warmer."}).status_code == 302
    promotion = Promotion.objects.first()
    assert (promotion.model_version, promotion.evaluation, promotion.reason) == (rival, evaluation, "Warmer.")
    assert promotion.decided_by == operator
    assert promotion.evidence["wins"] == 30


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 3), (2, 30)])
def test_without_a_decision_it_must_be_confirmed(operator_client, project, present, wins, losses):
    rival = make_rival(project)
    make_evaluation(project, rival, present, wins=wins, losses=losses)
    path = address(project, "promote", pk=rival.pk)
    refused = operator_client.post(path, {"reason": "I like it."})
    assert refused.status_code == 422
    assert list(refused.context["form"].errors) == ["confirm"]
    assert user_model(project) == present
    assert operator_client.post(path, {"reason": "I like it.", "confirm": "on"}).status_code == 302
    assert user_model(project) == rival


def test_the_first_user_model(operator_client, project, base):
    path = address(project, "promote", pk=base.pk)
    assert "somebody has to begin" in operator_client.get(path).content.decode()
    operator_client.post(path, {"reason": "A start.", "confirm": "on"})
    assert user_model(project) == base


def test_a_reward_model_is_not_promoted(operator_client, project, present):
    reward = make_rival(project, "scores", kind=ModelVersion.Kind.REWARD)
    path = address(project, "promote", pk=reward.pk)
    response = operator_client.post(path, {"reason": "x", "confirm": "on"})
    assert response.status_code == 422
    assert "is a reward model" in response.content.decode()
    assert user_model(project) == present


def test_undo_with_a_reason(operator_client, project, present):
    rival = make_rival(project)
    promote = address(project, "promote", pk=rival.pk)
    operator_client.post(promote, {"reason": "Try it.", "confirm": "on"})
    promotion = Promotion.objects.first()
    path = address(project, "undo_promotion", pk=promotion.pk)
    refused = operator_client.post(path, {"reason": ""})
    assert refused.status_code == 422
    assert "Reason: " in refused.content.decode()
    assert user_model(project) == rival
    assert operator_client.post(path, {"reason": "It rambles."}).status_code == 302
    assert user_model(project) == present
    assert Promotion.objects.count() == 3
    again = operator_client.post(path, {"reason": "Again."})
    assert again.status_code == 422
    assert Promotion.objects.count() == 3
