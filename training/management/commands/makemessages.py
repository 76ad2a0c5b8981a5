"""`manage.py makemessages`, taught where the recipes' words are: they know no Django and mark nothing.

The descriptions of the specification's fields are the second argument of `setting(...)`. Labels and units are
made from the specification, so they are written into the template of messages here. The sentences that the
trainer keeps with a run (training/services/sentences.py) are found by their own calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from django.core.management.base import CommandParser
from django.core.management.commands import makemessages
from pydantic import BaseModel

from training.recipes.spec import RECIPES
from training.services.runs import settable_fields
from training.settings_form import part_names, setting_label


class Command(makemessages.Command):
    """Collects the messages of templates and code, and those of the recipes' settings."""

    xgettext_options = [
        *makemessages.Command.xgettext_options,
        "--keyword=setting:2",
        "--keyword=Sentence:1",
        "--keyword=counted:1,2",
    ]

    def add_arguments(self, parser: CommandParser) -> None:
        """Tests and benchmarks have no words for people."""
        super().add_arguments(parser)
        parser.set_defaults(ignore_patterns=["tests", "benchmarks"])

    def process_files(self, file_list: list[Any]) -> None:
        """Write the templates of messages; the settings' words go to the project's own."""
        super().process_files(file_list)
        if self.domain == "django" and self.default_locale_path:
            potfile = Path(self.default_locale_path) / "django.pot"
            with potfile.open("a", encoding="utf-8") as file:
                file.writelines(format_entry(*message) for message in sorted(set(setting_words())))


def setting_words() -> Iterator[tuple[str, str]]:
    """(context, English words) of the labels and units of all settings that a form shows."""
    for recipe, spec in RECIPES.items():
        for name in settable_fields(recipe):
            yield from field_words(name, spec.model_fields[name])


def field_words(name: str, info: Any) -> Iterator[tuple[str, str]]:
    """The words of a field, and of the fields of a part."""
    yield "setting", setting_label(name)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if extra.get("unit"):
        yield "unit", str(extra["unit"])
    for part in parts_in(info.annotation):
        for inner in part_names(name, part):
            yield from field_words(f"{name}.{inner}", part.model_fields[inner])


def parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The parts that a field may hold, `Lora` in `Lora | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from parts_in(inner)


def format_entry(context: str, words: str) -> str:
    """An entry of a template of messages; the words are names and units, without quotes or line breaks."""
    return f'\n#. {context.capitalize()} of a recipe.\nmsgctxt "{context}"\nmsgid "{words}"\nmsgstr ""\n'
