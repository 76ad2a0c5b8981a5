"""Kinds of files: JSON Lines, JSON, CSV, Parquet, plain or gzip, and all that may be wrong with them."""

import contextlib
import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rating.models import Completion, Item, Judgment, Prompt
from rating.services.imports import Columns, ImportFailed, import_file
from rating.services.imports.opening import Bounds
from rating.services.imports.reading import find_kind, first_rows, read_rows
from tests.rating.imports.files import counts, hh, jsonl, take, zipped

pytestmark = pytest.mark.django_db

ROWS = [{"prompt": f"Q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(300)]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


def as_csv(rows, separator=","):
    import csv

    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys(), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_parquet(rows, **options):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


FILES = {
    "jsonl": jsonl(*ROWS),
    "json": json.dumps(ROWS).encode(),
    "json indented": json.dumps(ROWS, indent=2).encode(),
    "json object": json.dumps({"name": "x", "args": {"a": [1]}, "none": [], "rows": ROWS, "end": 1}).encode(),
    "json object indented": json.dumps({"name": "x", "rows": ROWS}, indent=1).encode(),
    "csv": as_csv(ROWS),
    "csv with semicolons": as_csv(ROWS, ";"),
    "csv with tabs": as_csv(ROWS, "\t"),
    "parquet": as_parquet(ROWS),
    "parquet in row groups": as_parquet(ROWS, row_group_size=7, compression="zstd"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_the_same_rows_come_out_of_every_kind_of_file(name, packed):
    data = zipped(FILES[name]) if packed else FILES[name]
    rows = list(read_rows(io.BytesIO(data)))
    assert [row for _, row in rows] == ROWS
    first = 2 if name.startswith("csv") else 1
    assert [number for number, _ in rows] == list(range(first, first + len(ROWS)))
    assert find_kind(io.BytesIO(data), Bounds()) == name.split()[0]


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_kind_of_file_goes_in(project, name):
    report = take(project, FILES[name])
    assert (report.format, report.taken, report.judgments) == ("trl-preference", 300, 300)
    assert take(project, zipped(FILES["jsonl"])).left_out["known"].count == 300


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_cut_off_is_refused_and_nothing_stays(project, name):
    for data in (FILES[name][:-40], zipped(FILES[name])[:-12]):
        with pytest.raises(ImportFailed) as failed:
            take(project, data)
        assert any(
            words in str(failed.value)
            for words in ("cut off", "damaged", "is not valid JSON", "rejected: is missing")
        )
    assert not any(counts().values())


def test_a_file_that_is_cut_off_is_refused_even_where_good_rows_are_kept(project):
    rejects = io.BytesIO()
    with pytest.raises(ImportFailed, match="cut off"):
        take(project, zipped(FILES["jsonl"])[:-12], rejects=rejects)
    assert not any(counts().values())


def test_good_rows_go_in_and_bad_ones_come_back(project):
    bad = [
        {"prompt": 5, "chosen": "x", "rejected": "y"},
        {"prompt": "\ud800", "chosen": "x", "rejected": "y"},
    ]
    data = jsonl(*ROWS[:3], *bad, ROWS[3]) + b'{"prompt": \n{"prompt": "\xff"}\n'
    rejects = io.BytesIO()
    report = take(project, data, rejects=rejects)
    assert (report.rows, report.taken, report.left_out["refused"].count) == (8, 4, 4)
    assert Judgment.objects.count() == 4
    told = [json.loads(line) for line in rejects.getvalue().splitlines()]
    assert [row["line"] for row in told] == [4, 5, 7, 8]
    assert [row["row"] for row in told[:2]] == bad
    assert told[0]["reason"] == "prompt: expected a text or chat messages, found int."
    assert "lone surrogate" in told[1]["reason"]
    assert told[2]["row"] == '{"prompt": \n'
    assert "\\xff" in told[3]["row"]
    assert report.errors[0].startswith("line 4: prompt: expected")


def test_rows_of_json_and_parquet_are_named_by_their_number(project):
    rows = [*ROWS[:2], {**ROWS[2], "prompt": " "}]
    for data in (json.dumps(rows).encode(), as_parquet(rows)):
        with pytest.raises(ImportFailed) as failed:
            take(project, data)
        assert failed.value.errors[0].line == 3


def test_a_formula_is_a_text(project):
    take(project, as_csv([{"prompt": "=1+1", "completion": "@SUM(A1)"}]))
    assert Completion.objects.get().text == "@SUM(A1)"
    assert Prompt.objects.get().messages[0]["content"] == "=1+1"


def test_a_cell_may_hold_messages_and_a_line_break(project):
    messages = json.dumps([{"role": "user", "content": "Q\nand"}])
    data = as_csv(
        [{"prompt": messages, "completion": "one\r\ntwo"}, {"prompt": "[{not json", "completion": "x"}]
    )
    take(project, data)
    assert Prompt.objects.filter(messages=[{"role": "user", "content": "Q\nand"}]).exists()
    assert Prompt.objects.filter(messages=[{"role": "user", "content": "[{not json"}]).exists()
    assert Completion.objects.filter(text="one\r\ntwo").exists()


def test_a_line_of_csv_is_named_although_cells_go_on_over_lines(project):
    data = b'prompt,completion\n"a\nb\nc",x\n,y\n'
    with pytest.raises(ImportFailed) as failed:
        take(project, data)
    assert str(failed.value.errors[0]).startswith("line 5: prompt: is empty")


def test_a_parquet_file_holds_lists_and_times(project):
    import datetime

    row = {
        "prompt": [{"role": "user", "content": "Q"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
        "judged_at": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC),
    }
    take(project, as_parquet([row]))
    assert Judgment.objects.get().judged_at == row["judged_at"]


def test_bytes_in_parquet_are_no_text(project):
    with pytest.raises(ImportFailed, match="prompt: expected a text or chat messages, found bytes"):
        take(project, as_parquet([{"prompt": b"\xff", "completion": "x"}]))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_what_unpacks_to_too_much_is_refused(project, kind):
    row = {"prompt": "x" * 900_000, "completion": "y"}
    data = {"jsonl": jsonl, "json": lambda *rows: json.dumps(rows).encode()}.get(kind)
    packed = (
        as_parquet([row] * 20) if kind == "parquet" else zipped((data or (lambda *r: as_csv(r)))(*[row] * 20))
    )
    assert len(packed) < 100_000
    with pytest.raises(ImportFailed, match="over 10,000,000 bytes"):
        take(project, packed, max_bytes=10_000_000)
    assert not any(counts().values())


def test_what_packs_better_than_any_text_is_refused(project, monkeypatch):
    monkeypatch.setattr("rating.services.imports.opening.RATIO_FROM", 1_000_000)
    with pytest.raises(ImportFailed, match="over 200 times its size"):
        take(project, zipped(jsonl({"prompt": "x" * 900_000}) * 20))


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_a_value_of_a_hundred_megabytes_is_refused_in_little_memory(project, tmp_path, ending):
    path = tmp_path / "long.gz"
    head, tail = {"json": (b'[{"prompt": "', b'"}]'), "csv": (b'prompt,completion\n"', b'",x\n')}[ending]
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(tail)
    with path.open("rb") as file, pytest.raises(ImportFailed, match=r"is longer than 16,777,216"):
        import_file(project, file)


def test_columns_are_named_by_hand(project):
    rows = [
        {"question": f"Q{n}", "one": f"x{n}", "two": f"y{n}", "best": best} for n, best in enumerate("12t")
    ]
    rows[2]["best"] = "tie"
    data = as_csv(rows)
    with pytest.raises(ImportFailed, match="which column is what"):
        take(project, data)
    columns = Columns.parse("prompt=question,response=one,response=two,label=best")
    report = take(project, data, columns=columns)
    assert (report.format, report.taken, report.judgments) == ("columns", 3, 3)
    said = Judgment.objects.order_by("pk").values_list("choice", "preferred__text")
    assert [(text or choice) for choice, text in said] == ["x0", "y1", "tie"]
    assert Columns.from_json(columns.to_json()) == columns


def test_columns_without_a_label_wait_for_raters(project):
    data = as_csv([{"q": "Q", "a": "x", "b": ""}, {"q": "R", "a": "x", "b": "y"}])
    take(project, data, columns=Columns(prompt="q", responses=("a", "b")))
    assert sorted(item.places.count() for item in Item.objects.filter(open_slots=1)) == [1, 2]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("response=a", "name the column that holds the prompt"),
        ("prompt=a,chosen=b", "both the better and the worse"),
        ("prompt=a,chosen=b,rejected=c,response=d", "not both"),
        ("prompt=a,response=a", "named twice"),
        ("prompt=a,label=b", "labels one response or two"),
        ("prompt=a,wrong=b", "write ROLE=COLUMN"),
        ("prompt", "write ROLE=COLUMN"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(words, fault):
    with pytest.raises(ValueError, match=fault):
        Columns.parse(words)


def test_the_json_reader_needs_no_more_than_a_piece(monkeypatch):
    monkeypatch.setattr("rating.services.imports.json_files.PIECE", 3)
    rows = [{"prompt": "ä€😀" * 9, "n": [1, {"x": None}]}, {"prompt": "\\", "f": -1.5e3}]
    for document in (rows, {"before": {"x": 1}, "rows": rows, "after": "]"}):
        data = json.dumps(document, ensure_ascii=False, indent=1).encode()
        assert [row for _, row in read_rows(io.BytesIO(data))] == rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1, max_size=5),
    st.sampled_from(sorted(FILES)),
)
def test_any_text_comes_out_of_every_kind_of_file_as_it_went_in(pairs, name):
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    kind = name.split()[0]
    data = {
        "jsonl": lambda: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(),
        "json": lambda: json.dumps(rows, ensure_ascii=False).encode(),
        "csv": lambda: as_csv(rows),
        "parquet": lambda: as_parquet(rows),
    }[kind]()
    assert [row for _, row in read_rows(io.BytesIO(data))] == rows


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"[", b"{", b"PAR1", b"\x1f\x8b", b"prompt,response\n", b"[{"]),
)
def test_no_bytes_are_more_than_refused(project, data, head):
    with contextlib.suppress(ImportFailed):
        assert take(project, head + data, dry_run=True).rows > 0


def test_transcripts_come_in_any_kind_of_file(project):
    rows = [hh("Q", "good", "bad"), hh("R", "good", "bad")]
    assert take(project, as_csv(rows)).judgments == 2
    assert take(project, as_parquet(rows)).left_out["known"].count == 2


def test_a_look_at_the_first_rows_ends_with_large_ones():
    rows = [{"prompt": "x" * 900_000} for _ in range(40)]
    assert len(first_rows(io.BytesIO(jsonl(*rows)), 40)) == 23
    assert len(first_rows(io.BytesIO(jsonl(*rows)), 5)) == 5
