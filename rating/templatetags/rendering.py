"""`{{ text|markdown }}`: people's and models' texts in templates."""

from django import template
from django.utils.safestring import SafeString

from rating.rendering import render_markdown

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    """The text as safe HTML; see `rating.rendering`. Put it inside an element with the class `prose`."""
    return render_markdown(text)
