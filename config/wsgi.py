"""The WSGI application that Granian serves."""

import os

from django.core.wsgi import get_wsgi_application

from config.gate import Gate

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_wsgi_application()

from django.conf import settings  # noqa: E402  # they are there once Django is set up

application = Gate(django, settings.REQUESTS_AT_ONCE)
