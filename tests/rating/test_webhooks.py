"""Webhooks: signed, tried again, and never sent into the operator's own network."""

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from rating.models import AuditEvent, Webhook, WebhookDelivery
from rating.services import outbound
from rating.services.imports.worker import ImportWorker
from rating.services.outbound import OutboundError, is_public, post_once
from rating.services.webhooks import (
    BACKOFF,
    WebhookError,
    add_webhook,
    announce,
    deliver_next,
    remove_webhook,
)
from tests.factories import make_project

pytestmark = pytest.mark.django_db


class Listener(HTTPServer):
    """Keeps what it is sent, and answers as it is told to."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.heard: list[tuple[str, dict[str, str], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?a=1"


class Ear(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.heard.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing on the console."""


@pytest.fixture
def listener(settings) -> Iterator[Listener]:
    settings.WEBHOOK_PRIVATE = True
    with Listener() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_events_are_signed_and_delivered_by_the_worker(listener, project):
    webhook = add_webhook(project, listener.url)
    announce(project, Webhook.Event.RUN_ENDED, {"number": 3, "state": "succeeded"})
    announce(make_project(), Webhook.Event.RUN_ENDED, {"number": 4})
    ImportWorker().work(once=True)
    ((path, headers, body),) = listener.heard
    assert path == "/hook?a=1"
    told = json.loads(body)
    assert (told["event"], told["project"], told["data"]["number"]) == ("run.ended", "demo", 3)
    assert headers["Ratchet-Delivery"] == told["id"]
    signed = f"{headers['Ratchet-Timestamp']}.{body}".encode()
    wanted = hmac.new(webhook.secret.encode(), signed, hashlib.sha256)
    assert headers["Ratchet-Signature"] == f"sha256={wanted.hexdigest()}"
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.said) == ("delivered", 1, "200")
    guide = (settings.BASE_DIR / "docs/api.md").read_text()
    code = guide.partition("```python\nimport hashlib")[2].partition("```")[0]
    names: dict = {}
    exec(f"import hashlib{code}", names)
    assert names["is_ratchets"](webhook.secret, headers, body.encode())
    assert not names["is_ratchets"](webhook.secret, headers, body.encode() + b" ")
    assert not deliver_next()


def test_what_fails_is_tried_again_and_given_up_at_last(listener, project):
    listener.status = 500
    add_webhook(project, listener.url)
    announce(project, Webhook.Event.SNAPSHOT_FROZEN, {})
    for attempt in range(1, len(BACKOFF) + 2):
        assert deliver_next()
        delivery = WebhookDelivery.objects.get()
        assert (delivery.attempts, delivery.said) == (attempt, "500")
        assert not deliver_next()
        if attempt <= len(BACKOFF):
            waits = delivery.due_at - timezone.now()
            longest = timedelta(seconds=BACKOFF[attempt - 1])
            assert longest / 10 < waits <= longest
        WebhookDelivery.objects.update(due_at=timezone.now())
    assert WebhookDelivery.objects.get().state == "given_up"
    assert len(listener.heard) == len(BACKOFF) + 1


def test_redirects_are_not_followed(listener, project):
    listener.status = 302
    add_webhook(project, listener.url)
    announce(project, Webhook.Event.SNAPSHOT_FROZEN, {})
    deliver_next()
    assert WebhookDelivery.objects.get().state == "waiting"
    assert len(listener.heard) == 1


def test_own_network_is_not_asked(listener, project, settings):
    settings.WEBHOOK_PRIVATE = False
    add_webhook(project, listener.url)
    announce(project, Webhook.Event.SNAPSHOT_FROZEN, {})
    deliver_next()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, listener.heard) == ("waiting", [])
    assert "no public address" in delivery.said


def test_one_private_address_among_several_is_enough(monkeypatch):
    found = [(0, 0, 0, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: found)
    with pytest.raises(OutboundError, match=r"10\.0\.0\.1"):
        post_once("http://example.org/", b"", {})


def test_the_checked_address_is_the_one_that_is_asked(listener, monkeypatch):
    asked = []

    def look_up(host: str, *args: object, **named: object) -> object:
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1", listener.server_port))]

    monkeypatch.setattr(outbound.socket, "getaddrinfo", look_up)
    connect = socket.create_connection
    reached = []

    def create(address: tuple[str, int], timeout: float) -> socket.socket:
        reached.append(address[0])
        monkeypatch.undo()
        return connect(address, timeout)

    monkeypatch.setattr(outbound.socket, "create_connection", create)
    assert post_once(f"http://hooks.example.org:{listener.server_port}/", b"{}", {}) == 200
    assert (asked, reached) == (["hooks.example.org"], ["127.0.0.1"])
    assert listener.heard[0][1]["Host"] == f"hooks.example.org:{listener.server_port}"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


def test_a_slow_answer_is_cut_off(settings, monkeypatch):
    settings.WEBHOOK_PRIVATE = True
    monkeypatch.setattr(outbound, "SECONDS_IN_ALL", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OutboundError):
        post_once(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {})


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.org/", "file:///etc/x", "example.org", "https://me:word@example.org/", "https://"],
)
def test_unfit_addresses_are_refused(project, url):
    with pytest.raises(WebhookError):
        add_webhook(project, url)


def test_a_project_has_ten_at_most(project):
    for number in range(10):
        add_webhook(project, f"https://example.org/{number}")
    with pytest.raises(WebhookError):
        add_webhook(project, "https://example.org/more")


def test_admins_add_try_and_remove_them(listener, project, admin_client):
    path = reverse("rating:webhooks", kwargs={"slug": "demo"})
    page = admin_client.post(path, {"url": listener.url})
    webhook = Webhook.objects.get()
    assert webhook.secret in page.content.decode()
    assert webhook.secret not in admin_client.get(path).content.decode()
    admin_client.post(reverse("rating:test_webhook", kwargs={"slug": "demo", "pk": webhook.pk}))
    deliver_next()
    assert json.loads(listener.heard[0][2])["event"] == "test"
    assert "Delivered" in admin_client.get(path).content.decode()
    admin_client.post(reverse("rating:remove_webhook", kwargs={"slug": "demo", "pk": webhook.pk}))
    assert not WebhookDelivery.objects.exists()
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert actions == {"webhook.added", "webhook.removed"}
    assert admin_client.post(path, {"url": "ftp://x"}).status_code == 422


def test_a_removed_one_is_told_no_more(listener, project):
    webhook = add_webhook(project, listener.url)
    announce(project, Webhook.Event.SNAPSHOT_FROZEN, {})
    remove_webhook(webhook)
    assert not deliver_next()
    assert listener.heard == []
