"""Settings of Ratchet. The environment is read here and nowhere else.

| variable | meaning | default |
|---|---|---|
| RATCHET_DEMO | demo mode: loopback only, accounts made for this installation, its own secret key | off |
| SECRET_KEY | signs sessions; required unless demo mode | none |
| ALLOWED_HOSTS | host names that the server answers to, comma-separated | loopback names |
| DATABASE_URL | `sqlite:////path/db.sqlite3` or `postgresql://user@host/name` | SQLite in RATCHET_HOME |
| RATCHET_HOME | where the database, snapshots and runs live | `var/` beside manage.py |
| RATCHET_HTTPS | served behind HTTPS: secure cookies, HSTS, X-Forwarded-Proto believed | off |
| CSRF_TRUSTED_ORIGINS | origins trusted for forms behind a proxy, comma-separated | none |
| RATCHET_DEBUG | Django's debug pages | off |
| RATCHET_TRAINING_THREADS | CPU threads for each training run | number of cores |
| RATCHET_API_CALLS_A_MINUTE | requests that each API token may make in a minute | 600 |
| RATCHET_WEBHOOK_PRIVATE | webhooks may go to private and loopback addresses | off |
| EMAIL_URL | where mail goes | printed on the console |
| HF_TOKEN | a token of the Hugging Face Hub, to upload datasets | none |
"""

import os
import secrets
import sys
from pathlib import Path

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DEMO = env.bool("RATCHET_DEMO", default=False)
DEBUG = env.bool("RATCHET_DEBUG", default=False)
HTTPS = env.bool("RATCHET_HTTPS", default=False)
HOME = Path(env.str("RATCHET_HOME", default=str(BASE_DIR / "var"))).resolve()
SNAPSHOTS_DIR = HOME / "snapshots"
RUNS_DIR = HOME / "runs"
REFERENCE_CACHE_DIR = HOME / "reference-cache"
TRAINING_THREADS = env.int("RATCHET_TRAINING_THREADS", default=os.cpu_count() or 1)
HF_TOKEN = env.str("HF_TOKEN", default="")
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
TESTING = Path(sys.argv[0]).name in {"pytest", "py.test"} or "pytest" in sys.modules


def demo_secret_key() -> str:
    """The demo installation's own key: random, made once, readable by its owner alone."""
    path = HOME / "demo-secret-key"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
    return path.read_text()


SECRET_KEY = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if DEMO:
        SECRET_KEY = demo_secret_key()
    elif TESTING:
        SECRET_KEY = secrets.token_urlsafe(50)
    else:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. Set it to a long random text, for example from "
            '`python -c "import secrets; print(secrets.token_urlsafe(50))"`, '
            "or set RATCHET_DEMO=1 to try Ratchet on this machine alone."
        )

# In demo mode the accounts' passwords are printed on the console, so nobody else may reach it.
ALLOWED_HOSTS = LOOPBACK_HOSTS if DEMO else env.list("ALLOWED_HOSTS", default=LOOPBACK_HOSTS)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "rating",
    "training",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "csp",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "rating.services.audit.note_request",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context_processors.site",
            ],
        },
    }
]


def database() -> dict[str, object]:
    """The database of DATABASE_URL with the options that each engine needs under load.

    SQLite takes the write lock at the start of a transaction (IMMEDIATE): a lease that reads and then writes
    would otherwise fail under contention instead of waiting.
    """
    config = env.db_url("DATABASE_URL", default=f"sqlite:///{HOME / 'db.sqlite3'}")
    if config["ENGINE"].endswith("sqlite3"):
        config["ENGINE"] = "config.sqlite"
        config["CONN_MAX_AGE"] = None
        if config["NAME"] != ":memory:":
            Path(config["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000;",
        }
        # The default in-memory test database cannot be shared by the server and trainer processes of a test.
        config["TEST"] = {"NAME": env.str("RATCHET_TEST_DATABASE", default=":memory:")}
    elif config["ENGINE"].endswith("postgresql"):
        config["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 16, "timeout": 20}}
    else:
        raise ImproperlyConfigured("DATABASE_URL must name SQLite or PostgreSQL.")
    return config


DATABASES = {"default": database()}
# In each web process, see config.gate. PostgreSQL works while Python waits; SQLite works in the process.
REQUESTS_AT_ONCE = 1 if DATABASES["default"]["ENGINE"] == "config.sqlite" else 4
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "rating.User"
AUTHENTICATION_BACKENDS = ["config.accounts.AccountBackend"]
SESSION_ENGINE = "config.sessions"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
ACCOUNT_ADAPTER = "config.accounts.ClosedSignupAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "rating:projects"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"

CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "ratchet_cache"}}

LANGUAGE_CODE = "en"
# Each in its own name, as it is offered; those without a catalogue in locale/ are shown in English.
LANGUAGES = [("en", "English"), ("es", "Español"), ("zh-hans", "简体中文"), ("ar", "العربية")]
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
# In development and tests files are found where they lie; `manage.py up` collects hashed, compressed ones.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "config.static.ModuleStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG or TESTING

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
PERMISSIONS_POLICY: dict[str, list[str]] = {
    name: [] for name in ("camera", "geolocation", "microphone", "payment", "usb")
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CSRF_FAILURE_VIEW = "config.errors.csrf_failure"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = HTTPS
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
# Whether subdomains are HTTPS only, and whether browsers preload that, is for the domain's owner to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# An uploaded file goes to disk in pieces; a form that is no file stays small.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
MAX_UPLOAD_BYTES = 512 * 1024 * 1024

WEBHOOK_PRIVATE = env.bool("RATCHET_WEBHOOK_PRIVATE", default=False)
# Each API token's share; a program that asks more is told to wait.
API_CALLS_A_MINUTE = env.int("RATCHET_API_CALLS_A_MINUTE", default=600)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rating.api.tokens.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["rating.api.tokens.TokenThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rating.api.parsing.JSONDoorParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "rating.api.problems.handle",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Ratchet",
    "DESCRIPTION": "What the pages do for admins and operators, for programs with a token.",
    "VERSION": "1",
    "SERVE_PUBLIC": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/",
    "ENUM_NAME_OVERRIDES": {
        "QuestionKind": "rating.models.projects.Question.Kind",
        "VersionKind": "rating.models.texts.ModelVersion.Kind",
    },
}

globals().update(env.email_url("EMAIL_URL", default="consolemail://"))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {name: {"level": "INFO"} for name in ("rating", "training", "config")},
}
