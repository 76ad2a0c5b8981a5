"""Charts are pure functions from points to markup."""

import math
import re
from xml.etree import ElementTree

import pytest

from training.charts import (
    MAX_POINTS,
    Series,
    draw_bars,
    draw_interval,
    draw_lines,
    format_value,
    nice_ticks,
    thin_points,
)


def points_of(svg: str) -> list[str]:
    found = re.search(r'points="([^"]*)"', svg)
    return found[1].split() if found else []


def test_nothing_to_draw_is_empty_text():
    assert draw_lines("Loss", []) == ""
    assert draw_lines("Loss", [Series("training", [])]) == ""
    assert draw_lines("Loss", [Series("training", [(1, math.nan), (2, math.inf)])]) == ""


def test_one_point_is_a_dot():
    svg = draw_lines("Loss", [Series("training", [(7, 0.5)])])
    assert "<circle" in svg
    assert "<polyline" not in svg
    ElementTree.fromstring(svg)


def test_what_is_not_finite_is_left_out():
    svg = draw_lines("Loss", [Series("training", [(1, 1.0), (2, math.nan), (3, -math.inf), (4, 2.0)])])
    assert len(points_of(svg)) == 2
    assert "nan" not in svg
    assert "inf" not in svg


def test_ten_thousand_points_stay_bounded_and_keep_both_ends():
    points = [(step, math.sin(step / 100)) for step in range(10_000)]
    thin = thin_points(points)
    assert len(thin) == MAX_POINTS
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    svg = draw_lines("Loss", [Series("training", points)])
    assert len(points_of(svg)) == MAX_POINTS
    assert len(svg) < 8_000


def test_points_lie_inside_the_picture_and_larger_is_higher():
    svg = draw_lines("Loss", [Series("training", [(0, -3.0), (10, 8.5)])])
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points_of(svg))
    _, _, width, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    assert 0 <= x1 < x2 <= width
    assert 0 <= y2 < y1 <= height


def test_title_description_and_labels_are_there_and_escaped():
    svg = draw_lines("<Loss>", [Series("<b>x</b>", [(1, 1.0), (2, 0.5)])])
    root = ElementTree.fromstring(svg)
    assert root.findtext("title") == "<Loss>"
    assert "<b>x</b>: 1 at step 1, 0.5 at step 2." in root.findtext("desc")
    assert root.get("role") == "img"
    assert "style=" not in svg


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 8.5), (0.001, 0.0011), (5, 5), (0, 0), (-7, -7), (1e9, 2e9), (0, 1e-9)]
)
def test_ticks_cover_the_values_with_round_steps(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-9 * abs(low)
    assert ticks[-1] >= high - 1e-9 * abs(high)
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (1e-5, "1e-5"),
        (2.5e-7, "2.5e-7"),
        (1234, "1234"),
        (1.5e6, "1.5e6"),
        (-0.25, "-0.25"),
    ],
)
def test_values_are_short(value, text):
    assert format_value(value) == text


def test_interval_shows_where_it_lies_against_a_draw():
    svg = draw_interval("Win rate", 0.55, 0.65, 0.74)
    root = ElementTree.fromstring(svg)
    assert root.findtext("title") == "Win rate"
    assert root.findtext("desc") == "65.0%; interval 55.0% to 74.0%; a draw is 50%."


def test_interval_outside_the_line_is_cut():
    svg = draw_interval("Win rate", -0.2, 0.5, 1.3)
    ElementTree.fromstring(svg)
    assert 'x1="24.0"' in svg
    assert 'x2="456.0"' in svg


def test_bars_stand_on_the_floor_and_say_their_figures():
    svg = draw_bars("Lengths", [("16", 3.0), ("<32>", 0.0), ("64", 6.0)], x_label="characters")
    root = ElementTree.fromstring(svg)
    bars = [node for node in root.iter() if node.get("class") == "chart-bar series-1"]
    assert [float(bar.get("y")) + float(bar.get("height")) for bar in bars] == pytest.approx([166] * 3)
    heights = [float(bar.get("height")) for bar in bars]
    assert heights == pytest.approx([heights[2] / 2, 0, heights[2]], abs=0.1)
    assert root.find("desc").text == "16: 3; <32>: 0; 64: 6"
    assert draw_bars("Nothing", []) == ""


def test_many_bars_have_fewer_labels():
    svg = draw_bars("Many", [(f"label-{n}", 1.0) for n in range(40)])
    assert svg.count("chart-bar") == 40
    assert svg.count(">label-") < 10
