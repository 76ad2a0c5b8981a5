"""What is refused: every fault named by its line, and nothing half-imported."""

import gzip
import io

import pytest

from rating.services.imports import ImportFailed, import_file
from tests.rating.imports.files import counts, hh, jsonl, take, zipped

pytestmark = pytest.mark.django_db

GOOD = jsonl(*[{"prompt": f"Q{n}", "responses": ["x", "y"]} for n in range(3)])


def refuse(project, data: bytes, **options) -> list[str]:
    """The errors of a file that must be refused, and must leave nothing."""
    before = counts()
    with pytest.raises(ImportFailed) as failed:
        take(project, data, **options)
    assert counts() == before
    return [str(error) for error in failed.value.errors]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "prompt: is missing"),
        ({"prompt": ""}, "prompt: is empty"),
        ({"prompt": "  \n"}, "prompt: is empty"),
        ({"prompt": 5}, "prompt: expected a text or chat messages, found int"),
        ({"prompt": []}, "prompt: expected a list of chat messages"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, "prompt[0].role: 'robot' is unknown"),
        ({"prompt": [{"role": "user"}]}, "prompt[0]: expected an object with `role` and `content`"),
        ({"prompt": [{"role": "user", "content": None}]}, "prompt[0].content: expected a text"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "ends with the assistant"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages: expected a list"),
        ({"prompt": "x", "messages": []}, "messages: `prompt` is there too"),
        ({"prompt": "x", "responses": "y"}, "responses: expected a list"),
        ({"prompt": "x", "responses": ["y"] * 10}, "responses: 10 are too many"),
        ({"prompt": "x", "responses": ["y", 3]}, "responses[1]: expected a text, found int"),
        ({"prompt": "x", "responses": [{"model": "m"}]}, "responses[0]: expected a text or"),
        ({"prompt": "x", "responses": [{"text": "y", "score": 1}]}, "responses[0]: 'score' is unknown"),
        (
            {"prompt": "x", "responses": [{"text": "y", "model": "m" * 201}]},
            "responses[0].model: is over 200",
        ),
        (
            {"prompt": "x", "responses": ["y"], "response": "z"},
            "response: the row gives its response in two ways",
        ),
        ({"prompt": "x", "responses": ["y"], "kind": "pair"}, "kind: 'pair' needs 2 responses"),
        ({"prompt": "x", "responses": ["y", "z"], "kind": "ranking"}, "kind: 'ranking' needs 3 to 9"),
        ({"prompt": "x", "kind": "other"}, "kind: 'other' is unknown"),
        ({"prompt": "x", "kind": ["pair"]}, "is unknown; use one of single, pair, ranking"),
        ({"prompt": "x", "metadata": [1]}, "metadata: expected an object"),
        ({"prompt": "x", "metadata": {"a": {"b": "\x00"}}}, "metadata.a.b: holds a NUL"),
        ({"prompt": "x", "metadata": {"\ud800": 1}}, "metadata, name of a field: holds a lone surrogate"),
        ({"prompt": "x\x00"}, "prompt: holds a NUL character (position 1)"),
        ({"prompt": "x", "responses": ["ok", "\ud83d"]}, "responses[1]: holds a lone surrogate (position 0)"),
        ({"prompt": "x" * 1_000_001}, "prompt: 1,000,001 characters are too many"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(project, row, words):
    (error,) = refuse(project, GOOD + jsonl(row), format="responses")
    assert error.startswith("line 4: ")
    assert words in error


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "x"}, "rejected: is missing"),
        ({"rejected": "x"}, "chosen: is missing"),
        ({"chosen": ["x"], "rejected": "y"}, "chosen: expected a text, found list"),
        ({"chosen": "Hello", "rejected": "Hello"}, "chosen: expected a transcript that begins with"),
        ({"chosen": "", "rejected": ""}, "chosen: expected a transcript that begins with"),
        ({"chosen": "\n\nAssistant: x", "rejected": "\n\nAssistant: y"}, "begins with the last response"),
        (hh("Q\x00", "x", "y"), "chosen: holds a NUL"),
        (hh("Q", "x", "\udfff"), "rejected: holds a lone surrogate"),
    ],
)
def test_a_bad_transcript_is_named_by_line_and_field(project, row, words):
    (error,) = refuse(project, jsonl(hh("Q", "x", "y"), row))
    assert error.startswith("line 2: ")
    assert words in error


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no rows"),
        (b"\n  \r\n\n", "no rows"),
        (zipped(b""), "no rows"),
        (b"\xef\xbb\xbf", "no rows"),
        (b"[]", "no rows"),
        (b"[\n", "row 1: the file is cut off here"),
        (b'[{"prompt": "x"}', "row 2: the file is cut off here"),
        (b'[{"prompt": "x"},', "row 2: the file is cut off here"),
        (b'[{"prompt": "x"}, {"prompt": "y', "row 2: the file is cut off here"),
        (b'[{"prompt": "x"} {"prompt": "y"}]', "row 2: is not valid JSON (expected ], found '{')"),
        (b'[{"prompt": "x"}, 5]', "row 2: holds int"),
        (b'[{"prompt": "x"}]\n[]', "row 2: something follows"),
        (b'[{"prompt": "x"}, {"prompt": "\xe9"}]', "row 1: is not UTF-8"),
        (b'[{"prompt": "a\x00b"}]', "row 1: is not valid JSON (Invalid control character"),
        (b'[{"prompt": ' + b"[" * 99_999, "row 1: is not valid JSON"),
        (b'{\n  "prompt": "x"\n}\n', "no rows"),
        (b'{"data": [{"prompt": "x"}], "more": ', "is not valid JSON"),
        (b"prompt,response\n", "no rows"),
        (b'prompt,response\nx,"y\nz', "line 2: is not valid CSV (a quotation mark is opened"),
        (b"prompt,response\nx,y,z\n", "line 2: has 3 cells, and the heading names 2"),
        (b"prompt,prompt\nx,y\n", "line 1: the heading names the column 'prompt' twice"),
        (b"prompt,response\nx,\xe9\n", "line 2: is not UTF-8 (byte 3 is 0xe9)"),
        (b"prompt,response\nx,\x00\n", "line 2: holds a NUL byte (byte 3)"),
        (b"prompt,response\n,y\n", "line 2: prompt: is empty"),
        (b"one,two\nx,y\n", "no format that is known (their fields: one, two)"),
        (b"PAR1rubbish and PAR1", "the Parquet file is cut off or damaged"),
        (zipped(b"PAR1rubbish"), "the Parquet file is cut off or damaged"),
        (b"PK\x03\x04rest", "ZIP archive"),
        (b'\xff\xfe{\x00"\x00', "UTF-16"),
        (GOOD + b'"x"\n', "line 4: holds str"),
        (GOOD + b'{"prompt": "x"\n', "line 4: is not valid JSON"),
        (GOOD + b'{"prompt": "x"} {"prompt": "y"}\n', "line 4: is not valid JSON (Extra data"),
        (GOOD + b'{"prompt": "\xe9"}\n', "line 4: is not UTF-8 (byte 13 is 0xe9)"),
        (GOOD + b'{"prompt": "a\x00b"}\n', "line 4: holds a NUL byte (byte 14)"),
        (GOOD + b'{"prompt": "x", "metadata": {"a": NaN}}\n', "line 4: is not valid JSON (NaN"),
        (GOOD + b'{"prompt": "x", "metadata": {"a": 1e999}}\n', "line 4: metadata.a: is too big"),
        (GOOD + b'{"prompt": "x", "metadata": {"a": ' + b"9" * 5000 + b"}}\n", "line 4: is not valid JSON"),
        (GOOD + b'{"prompt": "x", "metadata": ' + b"[" * 99_999 + b"\n", "line 4: is not valid JSON"),
        (
            GOOD + b'{"prompt": "x", "metadata": {"a": ' + b"[" * 60 + b"]" * 60 + b"}}\n",
            "levels deep",
        ),
        (zipped(GOOD)[:-12], "gzip file is cut off"),
        (zipped(GOOD)[:-8] + b"\x00" * 8, "gzip file is damaged"),
        (b"\x1f\x8bnonsense and more of it", "gzip file is damaged"),
        (zipped(GOOD) + b"rubbish", "gzip file is damaged"),
    ],
)
def test_a_bad_file_is_refused_in_words(project, data, words):
    assert words in refuse(project, data)[0]


def test_a_fault_in_the_last_line_leaves_nothing_behind(project):
    rows = [hh(f"Q{n}", "good", "bad") for n in range(5000)]
    take(project, jsonl(hh("before", "good", "bad")))
    (error,) = refuse(project, zipped(jsonl(*rows, {"chosen": 1, "rejected": 2})))
    assert error.startswith("line 5,001: chosen: expected a text")


def test_a_gzip_cut_in_the_middle_names_the_line(project):
    data = zipped(jsonl(*[hh(f"Question {n * 7919}", f"good {n}", f"bad {n * 31}") for n in range(3000)]))
    (error,) = refuse(project, data[: len(data) // 2])
    line = int(error.split(":")[0].removeprefix("line ").replace(",", ""))
    assert 1000 < line < 2500
    assert "cut off" in error


def test_the_first_twenty_errors_are_listed(project):
    data = b"".join(b'{"prompt": %d}\n' % n if n % 2 else b'{"prompt": "%d"}\n' % n for n in range(100))
    with pytest.raises(ImportFailed) as failed:
        take(project, data)
    assert [error.line for error in failed.value.errors] == list(range(2, 42, 2))
    assert failed.value.more


def test_a_line_that_is_too_long_is_refused_and_the_next_ones_are_read(project, tmp_path):
    path = tmp_path / "long.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(GOOD + b'{"prompt": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"prompt": 1}\n')
    with path.open("rb") as file, pytest.raises(ImportFailed) as failed:
        import_file(project, file)
    lines = [str(error) for error in failed.value.errors]
    assert lines[0].startswith("line 4: is longer than 16,777,216 bytes")
    assert lines[1].startswith("line 5: prompt: expected a text")
    assert not any(counts().values())


def test_a_file_that_unpacks_to_too_much_is_refused(project):
    data = zipped(b'{"prompt": "x"}\n' * 100_000)
    (error,) = refuse(project, data, max_bytes=1_000_000)
    assert "over 1,000,000 bytes when unpacked" in error


def test_a_bom_crlf_and_blank_lines_are_accepted(project):
    data = b'\xef\xbb\xbf{"prompt": "x"}\r\n\r\n\n{"prompt": "y", "response": "z"}'
    for file in (data, zipped(data)):
        report = take(project, file)
        assert report.rows == 2
    assert report.left_out["known"].lines == [1, 4]


def test_rows_of_the_other_format_are_refused(project):
    (error,) = refuse(project, jsonl(hh("Q", "x", "y"), {"prompt": "x"}))
    assert error == "line 2: chosen: is missing; a row has `chosen` and `rejected`."
    with pytest.raises(ValueError, match="use one of auto, argilla, "):
        import_file(project, io.BytesIO(GOOD), format="csv")
