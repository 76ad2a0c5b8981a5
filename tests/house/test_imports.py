"""What the web process must not carry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

HEAVY = ["torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors"]
# VmHWM is this program's own peak; getrusage would give that of the process it was forked from.
PROBE = """
import json, sys
from pathlib import Path
import config.wsgi
from django.urls import get_resolver
get_resolver().reverse_dict
heavy = [name for name in {heavy!r} if name in sys.modules]
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({{"heavy": heavy, "kilobytes": int(status["VmHWM"].split()[0])}}))
"""


def probe_web_process(tmp_path):
    """Import the WSGI application with all its URLs in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY)],
        cwd=settings.BASE_DIR,
        env={"SECRET_KEY": "x" * 60, "RATCHET_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_web_process_is_light(tmp_path):
    found = probe_web_process(tmp_path)
    assert found["heavy"] == []
    assert found["kilobytes"] < 200 * 1024
