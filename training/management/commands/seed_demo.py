"""`manage.py seed_demo`: the demo project and its accounts."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.services.demo import DemoError, demo_password, seed_demo


class Command(BaseCommand):
    """Makes the demo project, once; demo mode only."""

    help = "Make the demo project and its accounts (only with RATCHET_DEMO=1); again changes nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            project = seed_demo()
        except DemoError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"“{project}” is there. Password of rater, operator and admin: {demo_password()}")
