"""Charts as SVG text, drawn on the server: pure functions from points to markup, no script, no inline style.

Colours come from the style sheet by class (`series-1` ...); series differ by dash as well as by colour. Axes
run from left to right in every language; coordinates are written as SVG has them, texts as the reader has
them. Each chart carries a title and a description for screen readers; the page puts a table of its points
beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, pgettext

from training.numbers import localize_decimal, localize_share

Point = tuple[float, float]

MAX_POINTS = 200
WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 34
# `direction` decides on which side of its place an anchored text stands; `dir` alone does nothing in SVG.
LEFT_TO_RIGHT = SafeString('dir="ltr" direction="ltr"')


@dataclass(frozen=True)
class Series:
    """One line of a chart: (x, y) points in rising x."""

    label: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Frame:
    """The part of the picture that holds the lines, and the values at its edges."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Horizontal place of a value, in pixels."""
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical place of a value, in pixels; larger values are higher up."""
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)


def thin_points(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """The finite points, at most `limit` of them by an even stride; the first and the last are kept."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(finite) <= limit:
        return finite
    return [finite[round(index * (len(finite) - 1) / (limit - 1))] for index in range(limit)]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round values that cover low to high; at least two.

    The step is 1, 2 or 5 times a power of ten.
    """
    if high <= low:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def format_value(value: float) -> str:
    """A number short enough for an axis or a table cell, with the language's decimal separator."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return localize_decimal(f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}")
    return localize_decimal(f"{value:.4g}")


def draw_lines(title: str, series: Sequence[Series], *, x_label: str = "") -> SafeString:
    """A line chart of one or several series over the steps (or what `x_label` says).

    Empty text when there is nothing finite to draw.
    """
    x_label = x_label or pgettext("axis", "step")
    kept = [Series(line.label, thin_points(line.points)) for line in series]
    kept = [line for line in kept if line.points]
    if not kept:
        return SafeString("")
    everything = [point for line in kept for point in line.points]
    y_ticks = nice_ticks(min(y for _, y in everything), max(y for _, y in everything))
    x_low, x_high = min(x for x, _ in everything), max(x for x, _ in everything)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    frame = Frame(x_low, x_high, y_ticks[0], y_ticks[-1])
    x_ticks = [tick for tick in nice_ticks(x_low, x_high) if x_low <= tick <= x_high and tick == int(tick)]
    return format_html(
        '<svg viewBox="0 0 {} {}" {} role="img"><title>{}</title><desc>{}</desc>{}{}{}</svg>',
        WIDTH,
        HEIGHT,
        LEFT_TO_RIGHT,
        title,
        describe_lines(kept, x_label),
        draw_grid(frame, y_ticks),
        draw_x_axis(frame, x_ticks, x_label),
        format_html_join("", "{}", ((draw_line(frame, line, i),) for i, line in enumerate(kept, start=1))),
    )


def describe_lines(series: Sequence[Series], x_label: str) -> str:
    """What the chart shows, in words."""
    sentences = []
    for line in series:
        (first_x, first_y), (last_x, last_y) = line.points[0], line.points[-1]
        sentence = gettext("%(curve)s: %(first)s at %(axis)s %(start)s, %(last)s at %(axis)s %(end)s.")
        values = {"first": first_y, "start": first_x, "last": last_y, "end": last_x}
        shown = {name: format_value(value) for name, value in values.items()}
        sentences.append(sentence % {"curve": line.label, "axis": x_label, **shown})
    return " ".join(sentences)


def draw_grid(frame: Frame, ticks: Sequence[float]) -> SafeString:
    """Horizontal grid lines with their values at the left."""
    return format_html_join(
        "",
        '<line class="chart-grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="chart-label" x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (LEFT, WIDTH - RIGHT, y, y, LEFT - 6, f"{frame.y(tick) + 4:.1f}", format_value(tick))
            for tick in ticks
            for y in [f"{frame.y(tick):.1f}"]
        ),
    )


def draw_x_axis(frame: Frame, ticks: Sequence[float], label: str) -> SafeString:
    """The horizontal axis: a line, values below it, and what they are."""
    marks = format_html_join(
        "",
        '<text class="chart-label" x="{}" y="{}" text-anchor="middle">{}</text>',
        ((f"{frame.x(tick):.1f}", HEIGHT - BOTTOM + 16, f"{tick:g}") for tick in ticks),
    )
    return format_html(
        '<line class="chart-axis" x1="{}" x2="{}" y1="{}" y2="{}"/>{}'
        '<text class="chart-label" x="{}" y="{}" text-anchor="end">{}</text>',
        LEFT,
        WIDTH - RIGHT,
        HEIGHT - BOTTOM,
        HEIGHT - BOTTOM,
        marks,
        WIDTH - RIGHT,
        HEIGHT - 4,
        label,
    )


def draw_line(frame: Frame, line: Series, number: int) -> SafeString:
    """One series: a polyline, or a dot where there is a single point."""
    places = [(f"{frame.x(x):.1f}", f"{frame.y(y):.1f}") for x, y in line.points]
    if len(places) == 1:
        return format_html(
            '<circle class="chart-point series-{}" cx="{}" cy="{}" r="3"/>', number, *places[0]
        )
    path = " ".join(f"{x},{y}" for x, y in places)
    return format_html('<polyline class="chart-line series-{}" points="{}"/>', number, path)


def draw_interval(
    title: str, low: float, middle: float, high: float, *, reference: float = 0.5
) -> SafeString:
    """A share with its interval on a line from 0 to 100%, against a reference (a draw, by default).

    All four are shares between 0 and 1.
    """
    width, height, left, line_y = 480, 64, 24, 24

    def place(share: float) -> str:
        return f"{left + min(max(share, 0.0), 1.0) * (width - 2 * left):.1f}"

    shown = {"share": middle, "low": low, "high": high}
    description = gettext("%(share)s; interval %(low)s to %(high)s; a draw is %(draw)s.") % {
        **{name: localize_share(share) for name, share in shown.items()},
        "draw": localize_share(reference, 0),
    }
    ticks = format_html_join(
        "",
        '<line class="chart-grid" x1="{0}" x2="{0}" y1="8" y2="40"/>'
        '<text class="chart-label" x="{0}" y="58" text-anchor="middle">{1}</text>',
        ((place(share), localize_share(share, 0)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
    )
    return format_html(
        '<svg viewBox="0 0 {} {}" {} role="img"><title>{}</title><desc>{}</desc>{}'
        '<line class="chart-rule" x1="{reference}" x2="{reference}" y1="4" y2="44"/>'
        '<line class="chart-line chart-interval series-1" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
        '<circle class="chart-point series-1" cx="{}" cy="{y}" r="6"/></svg>',
        width,
        height,
        LEFT_TO_RIGHT,
        title,
        description,
        ticks,
        place(low),
        place(high),
        place(middle),
        reference=place(reference),
        y=line_y,
    )


def draw_bars(title: str, bars: Sequence[tuple[str, float]], *, x_label: str = "") -> SafeString:
    """Columns side by side with a label below each; empty text without any.

    Args:
        bars: (label, height), heights at least 0; labels short.
    """
    if not bars:
        return SafeString("")
    ticks = nice_ticks(0.0, max(height for _, height in bars))
    frame = Frame(0.0, float(len(bars)), 0.0, ticks[-1])
    floor, width = HEIGHT - BOTTOM, frame.x(1) - frame.x(0)
    every = math.ceil(len(bars) * 44 / (WIDTH - LEFT - RIGHT))  # a label needs about 44 pixels
    columns = format_html_join(
        "",
        '<rect class="chart-bar series-1" x="{}" y="{}" width="{}" height="{}"/>{}',
        (
            (
                f"{frame.x(index + 0.1):.1f}",
                f"{frame.y(height):.1f}",
                f"{width * 0.8:.1f}",
                f"{floor - frame.y(height):.1f}",
                draw_bar_label(label, frame.x(index + 0.5)) if index % every == 0 else "",
            )
            for index, (label, height) in enumerate(bars)
        ),
    )
    return format_html(
        '<svg viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}{}{}</svg>',
        WIDTH,
        HEIGHT,
        title,
        "; ".join(f"{label}: {format_value(height)}" for label, height in bars),
        draw_grid(frame, ticks),
        columns,
        draw_x_axis(frame, [], x_label),
    )


def draw_bar_label(label: str, x: float) -> SafeString:
    """What a column stands for, below it."""
    return format_html(
        '<text class="chart-label" x="{}" y="{}" text-anchor="middle">{}</text>',
        f"{x:.1f}",
        HEIGHT - BOTTOM + 16,
        label,
    )
