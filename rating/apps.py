from django.apps import AppConfig


class RatingConfig(AppConfig):
    """What people see and say."""

    name = "rating"
    default_auto_field = "django.db.models.BigAutoField"
