"""How an account likes the desk: looks, habits and keys. Stored is what differs from the defaults."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from rating.models import RaterPreferences, User

THEMES = (("", _("As the system says")), ("light", _("Light")), ("dark", _("Dark")))
SIZES = (("small", _("Small")), ("", _("Normal")), ("large", _("Large")), ("huge", _("Very large")))
WIDTHS = (("narrow", _("Narrow")), ("", _("Normal")), ("full", _("The whole window")))

ACTIONS: dict[str, tuple[str, Any]] = {
    "undo": ("u", _("Take the last answer back")),
    "skip": ("s", _("Skip the item")),
    "flag": ("f", _("Flag the item")),
    "write": ("w", _("Write why")),
    "guidelines": ("g", _("Show or hide the guidelines")),
    "difference": ("d", _("Show what differs")),
    "raw": ("r", _("Show the raw text")),
    "together": ("l", _("Scroll the responses together")),
    "yes": ("y", _("Yes")),
    "no": ("n", _("No")),
    "help": ("?", _("Show the keys")),
}
"""What a letter does: the key that is set at first, and the words for it."""

DIGITS = {f"answer_{digit}": (str(digit), str(digit)) for digit in (*range(1, 10), 0)}
"""The keys of answers; another key may stand for a digit."""

DEFAULT_KEYS = {name: key for name, (key, _words) in (ACTIONS | DIGITS).items()}


@dataclass(frozen=True)
class Preferences:
    """What an account likes; empty words are the normal looks."""

    theme: str = ""
    text_size: str = ""
    width: str = ""
    auto_advance: bool = False
    scroll_together: bool = False
    keys: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_KEYS))

    @property
    def shown_keys(self) -> dict[str, str]:
        """The keys as they are printed on the controls."""
        return {name: key.upper() for name, key in self.keys.items()}

    @property
    def listed_keys(self) -> list[tuple[str, Any]]:
        """What the letters do, in the order of the list of keys."""
        return [
            (self.keys[name].upper(), words)
            for name, (_key, words) in ACTIONS.items()
            if name not in ("yes", "no")
        ]

    @property
    def keys_json(self) -> str:
        """The keys for the page's script."""
        return json.dumps(self.keys)


def preferences_of(user: User) -> Preferences:
    """What the account likes; one query."""
    row = RaterPreferences.objects.filter(user=user).values_list("settings", flat=True).first()
    stored = row or {}
    known = {one.name for one in fields(Preferences)} - {"keys"}
    looks = {name: value for name, value in stored.items() if name in known}
    own = {name: key for name, key in stored.get("keys", {}).items() if name in DEFAULT_KEYS}
    return Preferences(**looks, keys=DEFAULT_KEYS | own)


def save_preferences(user: User, preferences: Preferences) -> None:
    """Keep what differs from the defaults."""
    usual = asdict(Preferences())
    changed = {name: value for name, value in asdict(preferences).items() if value != usual[name]}
    if "keys" in changed:
        changed["keys"] = {name: key for name, key in preferences.keys.items() if key != DEFAULT_KEYS[name]}
    RaterPreferences.objects.update_or_create(user=user, defaults={"settings": changed})


class PreferencesForm(forms.Form):
    """The page of preferences: looks, habits, and one key for each action."""

    theme = forms.ChoiceField(choices=THEMES, required=False, label=_("Theme"))
    text_size = forms.ChoiceField(choices=SIZES, required=False, label=_("Size of the text"))
    width = forms.ChoiceField(choices=WIDTHS, required=False, label=_("Width of the desk"))
    auto_advance = forms.BooleanField(
        required=False,
        label=_("Save and go on by itself after the last answer that is needed"),
        help_text=_("A third of a second later; any other key or a click stops it."),
    )
    scroll_together = forms.BooleanField(required=False, label=_("Long responses scroll together"))

    def __init__(self, preferences: Preferences, data: Any = None) -> None:
        initial = asdict(preferences) | {f"key_{name}": key for name, key in preferences.keys.items()}
        super().__init__(data, initial=initial)
        attributes = {"class": "key", "autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        for name, (_key, words) in (ACTIONS | DIGITS).items():
            self.fields[f"key_{name}"] = forms.CharField(
                max_length=1, label=words, widget=forms.TextInput(attributes)
            )

    @property
    def action_keys(self) -> list[forms.BoundField]:
        """The fields of the letters."""
        return [self[f"key_{name}"] for name in ACTIONS]

    @property
    def digit_keys(self) -> list[forms.BoundField]:
        """The fields of the digits."""
        return [self[f"key_{name}"] for name in DIGITS]

    def clean(self) -> dict[str, Any]:
        """Refuse what cannot be pressed, and one key for two things."""
        data = self.cleaned_data
        taken: dict[str, str] = {}
        for name in DEFAULT_KEYS:
            key = data.get(f"key_{name}", "").lower()
            if not key:
                continue
            if len(key) != 1 or not key.isprintable() or key.isspace():
                self.add_error(f"key_{name}", _("Give one letter, digit or sign."))
            elif key in taken:
                other = self.fields[f"key_{taken[key]}"].label
                self.add_error(f"key_{name}", _("“%(action)s” has this key already.") % {"action": other})
            taken.setdefault(key, name)
        return data

    def preferences(self) -> Preferences:
        """What was filled in; call it on a valid form."""
        data = self.cleaned_data
        keys = {name: data[f"key_{name}"].lower() for name in DEFAULT_KEYS}
        looks = {one.name: data[one.name] for one in fields(Preferences) if one.name != "keys"}
        return Preferences(**looks, keys=keys)
