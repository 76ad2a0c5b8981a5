"""What an account likes: validated, stored, and told to the desk."""

import pytest
from django.urls import reverse

from rating.models import RaterPreferences
from rating.preferences import DEFAULT_KEYS, Preferences, preferences_of
from tests.factories import make_item

pytestmark = pytest.mark.django_db
ADDRESS = "/preferences/"


def filled(**changes: object) -> dict[str, object]:
    """The form as the page has it at first, with changes."""
    return {f"key_{name}": key for name, key in DEFAULT_KEYS.items()} | changes


def test_defaults_need_no_row(rater, rater_client):
    assert preferences_of(rater) == Preferences()
    assert rater_client.get(ADDRESS).status_code == 200
    assert not RaterPreferences.objects.exists()


def test_what_differs_is_kept_and_told_to_the_desk(project, rater, rater_client):
    make_item(project)
    data = filled(
        theme="dark", text_size="large", width="full", auto_advance="on", key_skip="J", key_answer_1="ö"
    )
    assert rater_client.post(ADDRESS, data).status_code == 302
    row = RaterPreferences.objects.get(user=rater)
    assert row.settings == {
        "theme": "dark",
        "text_size": "large",
        "width": "full",
        "auto_advance": True,
        "keys": {"skip": "j", "answer_1": "ö"},
    }
    page = rater_client.get(reverse("rating:judge", args=["demo"])).content.decode()
    assert '<html lang="en" dir="ltr" data-theme="dark">' in page
    assert 'data-text-size="large" data-width="full" data-auto-advance' in page
    assert '<kbd data-for="skip">J</kbd>' in page


def test_back_to_the_defaults(rater, rater_client):
    rater_client.post(ADDRESS, filled(theme="dark"))
    rater_client.post(ADDRESS, {"reset": "1"})
    assert preferences_of(rater) == Preferences()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key_skip": "u"}, "has this key already"),
        ({"key_skip": "U"}, "has this key already"),
        ({"key_skip": "1"}, "has this key already"),
        ({"key_skip": ""}, "This field is required"),
        ({"key_skip": "ab"}, "at most 1 character"),
        ({"key_skip": "\x00"}, "Null characters are not allowed"),
        ({"key_skip": "\u202e"}, "Give one letter, digit or sign."),
        ({"theme": "neon"}, "Select a valid choice"),
        ({"width": "<script>"}, "Select a valid choice"),
    ],
)
def test_unfit_preferences_are_said_at_their_field(rater_client, changes, words):
    response = rater_client.post(ADDRESS, filled(**changes))
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not RaterPreferences.objects.exists()


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example/", "javascript:alert(1)", "x"])
def test_leads_back_within_the_house_only(rater_client, elsewhere):
    assert rater_client.post(ADDRESS, filled(next=elsewhere)).url == ADDRESS
    assert "evil" not in rater_client.get(ADDRESS, {"next": elsewhere}).content.decode()
    assert rater_client.post(ADDRESS, filled(next="/projects/demo/rate/")).url == "/projects/demo/rate/"


def test_stored_oddities_do_not_break_the_desk(project, rater, rater_client):
    make_item(project)
    RaterPreferences.objects.create(user=rater, settings={"gone": 1, "keys": {"gone": "x", "undo": "z"}})
    assert preferences_of(rater).keys == DEFAULT_KEYS | {"undo": "z"}
    assert rater_client.get(reverse("rating:judge", args=["demo"])).status_code == 200


def test_preferences_are_ones_own(rater_client, admin_client, admin):
    rater_client.post(ADDRESS, filled(theme="dark"))
    assert preferences_of(admin) == Preferences()
