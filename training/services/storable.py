"""What databases take: PostgreSQL stores neither NUL nor half a surrogate pair, not even escaped in JSON.

Nor does it store numbers that JSON does not have; and what is nested without end cannot be walked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 50
BIGGEST_INTEGER = 2**63
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def make_storable(value: Any) -> Any:
    """The JSON value with a replacement character for what no database stores."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {make_storable(key): make_storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [make_storable(item) for item in value]
    return value


def read_json(text: str, *, odd_number: Callable[[str], Any]) -> Any:
    """The JSON value that somebody else wrote.

    Args:
        odd_number: what stands in the place of a number that is none in JSON (NaN, Infinity) or that no
            column holds (1e999, integers of more than 64 bits).

    Raises:
        ValueError: it is no JSON, or it is nested more than 50 levels deep.
    """

    def read_float(digits: str) -> Any:
        return value if math.isfinite(value := float(digits)) else odd_number(digits)

    def read_int(digits: str) -> Any:
        fits = len(digits) < 20 and abs(int(digits)) < BIGGEST_INTEGER
        return int(digits) if fits else odd_number(digits)

    try:
        value = json.loads(text, parse_constant=odd_number, parse_float=read_float, parse_int=read_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
    if level:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    return value


def refuse_number(digits: str) -> Any:
    """For read_json: such a number makes the whole unfit."""
    raise ValueError(f"{digits[:40]} is no number that can be stored")


def forget_number(digits: str) -> None:
    """For read_json: such a number is as good as none."""


def _inside(value: Any) -> list[Any]:
    """What is directly inside an object or a list; nothing in any other value."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
