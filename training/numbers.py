"""Numbers as text, in the reader's language. What goes into attributes or forms is never made here."""

from __future__ import annotations

from decimal import Decimal

from django.utils.formats import get_format, number_format
from django.utils.translation import gettext


def localize_decimal(text: str) -> str:
    """A number that Python wrote (`0.693`, `1.2e-05`), with the language's decimal separator."""
    return text.replace(".", str(get_format("DECIMAL_SEPARATOR")))


def localize_count(count: int) -> str:
    """A whole number with its thousands grouped as the language groups them."""
    return str(number_format(count, use_l10n=True, force_grouping=True))


def localize_share(share: float, digits: int = 1) -> str:
    """A share between 0 and 1 as per cent."""
    number = number_format(Decimal(f"{share:.{digits}%}".rstrip("%")), digits)
    # Translators: a share in per cent, such as 93.8%; write the sign where your language has it.
    return gettext("%(number)s%%") % {"number": number}
