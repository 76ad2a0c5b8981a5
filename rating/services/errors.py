"""The refusal of an answer, and the texts in it."""

from django.utils.formats import number_format
from django.utils.translation import ngettext

from rating.services.texts import TextError, check_text


class AnswerError(ValueError):
    """An answer that cannot be taken: `field` says which part, the message what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def too_long(text: str, limit: int) -> str:
    """That a text has more characters than it may have."""
    words = ngettext(
        "At most %(limit)s character; these are %(count)s.",
        "At most %(limit)s characters; these are %(count)s.",
        limit,
    )
    return words % {
        "limit": number_format(limit, force_grouping=True),
        "count": number_format(len(text), force_grouping=True),
    }


def at_most_characters(limit: int) -> str:
    """That a text may have so many characters."""
    words = ngettext("At most %(limit)s character.", "At most %(limit)s characters.", limit)
    return words % {"limit": number_format(limit, force_grouping=True)}


def read_words(text: str, field: str, name: str, limit: int) -> str:
    """A text that the rater wrote, without the white space around it.

    Raises:
        AnswerError: at `field`, when it cannot be stored or has more characters than `limit`.
    """
    try:
        check_text(text, name)
    except TextError as error:
        raise AnswerError(field, str(error)) from None
    if len(text) > limit:
        raise AnswerError(field, too_long(text, limit))
    return text.replace("\r\n", "\n").strip()
