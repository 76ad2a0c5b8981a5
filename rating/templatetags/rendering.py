"""`{{ text|markdown }}`: people's and models' texts in templates; `{{ role|speaker }}`: who says them."""

from django import template
from django.utils.safestring import SafeString
from django.utils.translation import pgettext_lazy

from rating.rendering import render_markdown

register = template.Library()

SPEAKERS = {
    "user": pgettext_lazy("who says a message", "User"),
    "assistant": pgettext_lazy("who says a message", "Assistant"),
    "system": pgettext_lazy("who says a message", "System"),
}
"""The roles of chat messages, as they are shown."""


@register.filter
def markdown(text: str) -> SafeString:
    """The text as safe HTML; see `rating.rendering`. Put it inside an element with the class `prose`."""
    return render_markdown(text)


@register.filter
def speaker(role: str) -> str:
    """The role of a chat message in the language of the page."""
    return str(SPEAKERS.get(role, role))
