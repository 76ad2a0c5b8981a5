"""The environment: what is read, what is refused, what nobody is given."""

import re
import subprocess
import sys

import pytest
from django.conf import settings

from config.serving import ServingError, check_host
from rating.models import User
from training.services.demo import DemoError, seed_demo

SOURCE = settings.BASE_DIR / "config" / "settings.py"
TESTS_ONLY = {"RATCHET_TEST_DATABASE"}


def manage(tmp_path, *arguments, **environment):
    """Run manage.py in an environment of its own."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env={"RATCHET_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", ["check", "up", "trainer"])
def test_nothing_starts_without_a_secret_key(tmp_path, command):
    done = manage(tmp_path, command)
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr
    assert "RATCHET_DEMO=1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_makes_its_own_key_for_its_owner_alone(tmp_path):
    assert manage(tmp_path, "check", RATCHET_DEMO="1").returncode == 0
    key = tmp_path / "demo-secret-key"
    assert key.stat().st_mode & 0o777 == 0o600
    first = key.read_text()
    assert len(first) >= 50
    assert manage(tmp_path, "check", RATCHET_DEMO="1").returncode == 0
    assert key.read_text() == first


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_demo_serves_loopback_only(tmp_path, host):
    done = manage(tmp_path, "up", "--host", host, RATCHET_DEMO="1")
    assert done.returncode == 1
    assert "demo mode serves this machine alone" in done.stderr
    assert not (tmp_path / "db.sqlite3").exists()


def test_demo_answers_to_loopback_names_only(tmp_path):
    code = "from django.conf import settings; print(settings.ALLOWED_HOSTS)"
    done = manage(tmp_path, "shell", "-v0", "-c", code, RATCHET_DEMO="1", ALLOWED_HOSTS="ratchet.example")
    assert done.stdout.strip() == "['localhost', '127.0.0.1', '[::1]']"


def test_hosts_are_addresses():
    assert check_host("localhost", loopback_only=True) == "127.0.0.1"
    assert check_host("::1", loopback_only=True) == "::1"
    assert check_host("0.0.0.0", loopback_only=False) == "0.0.0.0"
    with pytest.raises(ServingError, match="is not an IP address"):
        check_host("ratchet.example", loopback_only=False)


@pytest.mark.django_db
def test_no_accounts_outside_the_demo():
    assert not User.objects.exists()
    assert not settings.DEMO
    with pytest.raises(DemoError, match="RATCHET_DEMO=1"):
        seed_demo()
    assert not User.objects.exists()


def test_settings_alone_read_the_environment():
    code = re.compile(r"os\.environ|os\.getenv|environ\.Env")
    readers = {
        path.relative_to(settings.BASE_DIR).as_posix()
        for room in ("config", "rating", "training")
        for path in (settings.BASE_DIR / room).rglob("*.py")
        if code.search(path.read_text())
        and not path.is_relative_to(settings.BASE_DIR / "training" / "recipes")
    }
    # These hand the environment on to a process or name the settings; they read nothing from it.
    handing_on = {"config/serving.py", "config/wsgi.py"}
    launchers = {name for name in readers if name.startswith("training/launchers/")}
    assert readers - handing_on - launchers == {"config/settings.py"}


def documented(text):
    """The variables in the first column of a Markdown table."""
    return set(re.findall(r"^\| `?([A-Z][A-Z_]+)`? \|", text, re.MULTILINE))


def test_every_variable_is_documented():
    source = SOURCE.read_text()
    read = set(re.findall(r"""env\.\w+\(\s*["']([A-Z_]+)["']""", source)) - TESTS_ONLY
    assert documented(source) == read
    assert documented((settings.BASE_DIR / "docs/guides/operator.md").read_text()) == read
