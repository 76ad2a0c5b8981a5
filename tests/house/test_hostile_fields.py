"""A new field that takes a text has to be met by the hostile texts before it is taken."""

import importlib
import inspect
import pkgutil

from django import forms
from django.apps import apps
from django.db import models

import rating
import training
from tests.hostile import HOSTILE
from tests.hostile_fields import COLUMNS, FORMS, MADE_FROM_OUTSIDE, Filled
from tests.rating import test_hostile_fields as rating_scenes
from tests.training import test_hostile_fields as training_scenes

NO_PAGES = ("migrations", "recipes", "demo", "management")


def text_columns() -> set[str]:
    """The columns of both apps that hold a text or JSON and are no choice."""
    return {
        f"{model.__name__}.{field.name}"
        for app in ("rating", "training")
        for model in apps.get_app_config(app).get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.CharField | models.TextField | models.JSONField) and not field.choices
    }


def text_fields() -> dict[str, set[str]]:
    """The forms of both apps with their fields that take a text of any kind."""
    found = {}
    for package in (rating, training):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if any(part in NO_PAGES for part in module.name.split(".")):
                continue
            for name, one in vars(importlib.import_module(module.name)).items():
                own = inspect.isclass(one) and one.__module__ == module.name
                if own and issubclass(one, forms.BaseForm):
                    free = (forms.CharField, forms.FileField, forms.JSONField)
                    choice = (forms.IntegerField, forms.DecimalField)
                    fields = one.base_fields.items()
                    found[name] = {
                        key for key, f in fields if isinstance(f, free) and not isinstance(f, choice)
                    }
    return found


def scenes() -> set[str]:
    return {*rating_scenes.SCENES, *training_scenes.SCENES}


def test_there_are_enough_texts():
    assert len(HOSTILE) >= 80


def test_every_column_is_on_the_list():
    assert text_columns() == set(COLUMNS)


def test_every_form_is_on_the_list():
    found = {name: fields for name, fields in text_fields().items() if fields or name in FORMS}
    assert found == {name: set(fields) for name, fields in FORMS.items()}


def test_every_scene_on_the_list_is_played():
    wanted = {one.scene for one in COLUMNS.values() if isinstance(one, Filled)}
    wanted |= {scene for fields in FORMS.values() for scene in fields.values()}
    assert wanted | set(MADE_FROM_OUTSIDE.values()) <= scenes()
