"""The refusal of an answer, and the texts in it."""

from rating.services.texts import TextError, check_text


class AnswerError(ValueError):
    """An answer that cannot be taken: `field` says which part, the message what would be right."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


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
        raise AnswerError(field, f"At most {limit:,} characters; these are {len(text):,}.")
    return text.replace("\r\n", "\n").strip()
