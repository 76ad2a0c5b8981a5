"""The demo project: made once, rated in order, with the first forty both pairs and single responses."""

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from rating.models import Completion, Item, Membership, ModelVersion, Prompt, Rater, User
from rating.services.leases import lease_next_item
from rating.services.projects import rater_for
from training.demo.manners import Manner, classify_manner
from training.models import Promotion, TrainingRun, Trigger
from training.services.demo import TRIGGER_EVERY, demo_password, seed_demo
from training.services.evaluations import EVALUATION_PROMPTS
from training.services.versions import user_model


@pytest.fixture
def demo_mode(settings, tmp_path):
    settings.DEMO, settings.HOME = True, tmp_path
    return tmp_path


@pytest.mark.django_db
def test_demo_is_made_once(demo_mode):
    project = seed_demo()
    tables = [User, Membership, Prompt, Completion, Item, ModelVersion, Promotion, Trigger, TrainingRun]
    before = [table.objects.count() for table in tables]
    rater = User.objects.get(username="rater")
    rater.set_password("a password of my own")
    rater.save()
    assert seed_demo() == project
    assert [table.objects.count() for table in tables] == before
    assert User.objects.get(username="rater").check_password("a password of my own")


@pytest.mark.django_db
def test_demo_accounts_have_their_roles_and_the_installations_password(demo_mode):
    project = seed_demo()
    roles = Membership.objects.filter(project=project).values_list("user__username", "role")
    assert set(roles) == {
        ("rater", "rater"),
        ("operator", "operator"),
        ("admin", "admin"),
        ("admin", "operator"),
    }
    for user in User.objects.all():
        assert user.check_password(demo_password())
        assert not user.is_superuser
        assert not user.is_staff
        assert user.has_perm("rating.add_project") == (user.username == "admin")
    password = demo_mode / "demo-password"
    assert password.stat().st_mode & 0o777 == 0o600
    assert len(password.read_text()) == 19


@pytest.mark.django_db
def test_first_forty_items_are_pairs_then_single_responses(demo_mode):
    project = seed_demo()
    rater = rater_for(project, User.objects.get(username="rater"))
    shown, warm = [], []
    for _ in range(TRIGGER_EVERY):
        assignment = lease_next_item(project, rater)
        texts = Completion.objects.filter(pk__in=assignment.order_shown).values_list("text", flat=True)
        shown.append(len(texts))
        warm.append(sum(classify_manner(text) is Manner.WARM for text in texts))
        assignment.state = "done"
        assignment.save()
    assert shown == [2] * 32 + [1] * 8
    assert warm[:32] == [1] * 32


@pytest.mark.django_db
def test_demo_has_what_an_evaluation_and_the_next_round_need(demo_mode):
    project = seed_demo()
    assert Prompt.objects.filter(project=project, split="eval").count() >= EVALUATION_PROMPTS
    assert Prompt.objects.filter(project=project, items=None).count() >= 100
    assert Item.objects.filter(project=project).count() > TRIGGER_EVERY
    assert not Completion.objects.exclude(model_version=user_model(project)).exists()
    assert Rater.objects.count() == 0


@pytest.mark.django_db
def test_demo_trigger_waits_for_forty(demo_mode):
    project = seed_demo()
    trigger = Trigger.objects.get(project=project)
    assert trigger.every_judgments == TRIGGER_EVERY
    assert [step["recipe"] for step in trigger.plan] == ["reward", "dpo"]
    assert not TrainingRun.objects.exists()


@pytest.mark.django_db
def test_command_refuses_outside_demo_mode(settings):
    settings.DEMO = False
    with pytest.raises(CommandError, match="RATCHET_DEMO=1"):
        call_command("seed_demo")
    assert not User.objects.exists()
