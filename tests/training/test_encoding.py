"""Files of each kind give back what went in."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.services import formats
from training.services.encoding import EncodingError, encode_lines, from_cell, to_cell

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
COLUMNS = {"text": formats.TEXT, "number": formats.NUMBER, "anything": formats.JSON, "yes": formats.BOOLEAN}
lines = st.fixed_dictionaries(
    {
        "text": st.none() | texts,
        "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "anything": st.dictionaries(texts, texts | st.booleans() | st.none() | st.lists(texts)),
        "yes": st.none() | st.booleans(),
    }
)


def read_csv(data: bytes, columns: dict[str, str]) -> list[dict]:
    """As docs/formats.md says it is read."""
    rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
    return [{name: from_cell(cell, columns[name]) for name, cell in row.items()} for row in rows]


@given(st.lists(lines, max_size=5))
def test_csv_loses_nothing(rows):
    assert read_csv(b"".join(encode_lines(rows, COLUMNS, "csv")), COLUMNS) == rows


@given(texts)
def test_no_cell_is_a_formula(text):
    cell = to_cell(text, formats.TEXT)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_cell(cell, formats.TEXT) == text


def test_the_signs_of_formulas_get_an_apostrophe():
    assert [to_cell(text, formats.TEXT) for text in ("=1+1", "@x", "'a", "", "a'", None)] == [
        "'=1+1",
        "'@x",
        "''a",
        "'",
        "a'",
        "",
    ]
    assert to_cell(-0.5, formats.NUMBER) == "-0.5"


def test_no_lines_are_a_header_alone():
    assert b"".join(encode_lines([], COLUMNS, "csv")) == b"text,number,anything,yes\r\n"
    assert b"".join(encode_lines([], COLUMNS, "jsonl")) == b""
    assert gzip.decompress(b"".join(encode_lines([], COLUMNS, "jsonl", compressed=True))) == b""


def test_parquet_loses_nothing_and_comes_in_row_groups(monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr("training.services.encoding.ROW_GROUP", 2)
    columns = {"prompt": formats.MESSAGES, "text": formats.TEXT, "number": formats.NUMBER}
    rows = [
        {"prompt": [{"role": "user", "content": f"\u2028 {n}"}], "text": None if n else "", "number": n / 3}
        for n in range(5)
    ]
    pieces = list(encode_lines(rows, columns, "parquet"))
    assert len(pieces) > 2
    file = parquet.ParquetFile(pyarrow.BufferReader(b"".join(pieces)))
    assert file.num_row_groups == 3
    assert file.read().to_pylist() == rows


def test_parquet_without_pyarrow_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(EncodingError, match="pip install pyarrow"):
        encode_lines([], COLUMNS, "parquet")


def test_lines_leave_before_all_are_read(monkeypatch):
    monkeypatch.setattr("training.services.encoding.BATCH", 1)

    def endless():
        while True:
            yield {"text": "x", "number": 1.0, "anything": {}, "yes": True}

    for kind in ("jsonl", "csv"):
        assert next(iter(encode_lines(endless(), COLUMNS, kind)))
