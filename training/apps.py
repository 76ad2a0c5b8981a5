from django.apps import AppConfig


class TrainingConfig(AppConfig):
    """What becomes of what people said."""

    name = "training"
    default_auto_field = "django.db.models.BigAutoField"
