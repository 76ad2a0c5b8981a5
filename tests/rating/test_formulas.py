"""Formulas are found, stay text, and what only looks like one is left alone."""

import re
import time

import pytest

from rating.rendering import render_markdown

MATH = re.compile(r'<span class="math" data-display="(true|false)">(.*?)</span>', re.DOTALL)


def formulas(text: str) -> list[tuple[str, str]]:
    return MATH.findall(render_markdown(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Let $x$ be.", [("false", "$x$")]),
        (r"Let \(x\) be, and \(y_1 * z*\).", [("false", r"\(x\)"), ("false", r"\(y_1 * z*\)")]),
        ("$$x^2$$", [("true", "$$x^2$$")]),
        (r"\[x^2\]", [("true", r"\[x^2\]")]),
        ("So $$x$$ it is.", [("true", "$$x$$")]),
        ("$$\na\n= b\n- c\n$$\nafter", [("true", "$$\na\n= b\n- c\n$$")]),
        ("\\[\nx\n\\]", [("true", "\\[\nx\n\\]")]),
        ("- one\n\n  $$\n  x\n  $$", [("true", "$$\nx\n$$")]),
        ("$a < b & c$", [("false", "$a &lt; b &amp; c$")]),
        (r"$\$5$", [("false", r"$\$5$")]),
        ("|a|\n|-|\n|$x$|", [("false", "$x$")]),
    ],
)
def test_formula_is_found(text, found):
    assert formulas(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10.",
        "It costs $5, not $6",
        "$ x $",
        "$$",
        "$$ $$",
        "$",
        r"\$x\$",
        r"\(",
        r"\[x",
        "`$x$`",
        "```\n$$x$$\n```",
        "    $$x$$",
        "$x" + "y" * 6000 + "$",
    ],
)
def test_what_is_no_formula_is_left_alone(text):
    assert formulas(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "$<script>alert(1)</script>$",
        '$" onmouseover="alert(1)$',
        r"\(</span><img src=x onerror=alert(1)>\)",
        "$$<style>*{display:none}</style>$$",
        r"$\href{javascript:alert(1)}{x}$",
        r"$\htmlClass{x}{y}\includegraphics{//evil.example}$",
    ],
)
def test_hostile_formula_stays_text(text):
    html = render_markdown(text)
    assert len(MATH.findall(html)) == 1
    assert set(re.findall(r"<(\w+)", html)) == {"p", "span"}
    assert set(re.findall(r"\s(\w[\w-]*)=\"", re.sub(MATH, "", html))) <= {"dir"}


@pytest.mark.parametrize(
    "piece", ["$", "$$", "$a", "$$a\n", r"\(", r"\[", "\\[\n", "$a$", "$ ", "$\\", "$$\n\n"]
)
def test_no_text_takes_long(piece):
    started = time.process_time()
    render_markdown(piece * (49_000 // len(piece)))
    assert time.process_time() - started < 4.0
