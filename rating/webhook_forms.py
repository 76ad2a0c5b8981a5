"""What an admin fills in for a webhook."""

from django import forms
from django.utils.translation import gettext_lazy as _


class WebhookForm(forms.Form):
    """Where a project's events are sent."""

    url = forms.CharField(
        max_length=500, label=_("Address"), widget=forms.URLInput({"placeholder": "https://", "dir": "ltr"})
    )
