"""A picture of points and lines as SVG text, for the documentation: no dependency, both colour schemes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from training.charts import nice_ticks

Point = tuple[float, float]
Place = Callable[[Point], str]

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 172, 20, 52
COLOURS = ("#3569b8", "#c2410c", "#15803d", "#9333ea", "#db2777", "#0e7490", "#a16207")
GREY = "#808080"
FONT = f'font-family="system-ui, sans-serif" font-size="13" fill="{GREY}"'
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4", "4 4")


@dataclass(frozen=True)
class Group:
    """A method: its measured points in rising x with their spreads in y, and the path of its training."""

    label: str
    points: Sequence[Point]
    spreads: Sequence[float]
    path: Sequence[Point] = ()


def draw_scatter(title: str, x_label: str, y_label: str, groups: Sequence[Group]) -> str:
    """The SVG: measured points with their spreads, joined per group; training paths thin behind them."""
    points = [point for group in groups for point in (*group.points, *group.path)]
    x_high = max(x for x, _ in points) * 1.05
    low, high = min(y for _, y in points), max(y for _, y in points)
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)

    def place(point: Point) -> str:
        x = LEFT + point[0] / x_high * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (point[1] - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {FONT}>',
        f"<title>{escape(title)}</title>",
        *axes(x_label, y_label, x_high, low, high, place),
    ]
    for index, group in enumerate(groups):
        parts += draw_group(group, COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)], place)
        y = TOP + 18 + 22 * index
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<circle cx="{WIDTH - RIGHT + 22}" cy="{y - 4}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 34}" y="{y}">{escape(group.label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def draw_group(group: Group, colour: str, dash: str, place: Place) -> list[str]:
    parts = []
    if group.path:
        line = " ".join(map(place, group.path))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-opacity="0.3"/>')
    if len(group.points) > 1:
        line = " ".join(map(place, group.points))
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
    for (x, y), spread in zip(group.points, group.spreads, strict=True):
        centre, (top, bottom) = place((x, y)).split(","), (place((x, y + s)) for s in (spread, -spread))
        x1, y1, y2 = centre[0], top.split(",")[1], bottom.split(",")[1]
        parts.append(f'<line x1="{x1}" x2="{x1}" y1="{y1}" y2="{y2}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{centre[0]}" cy="{centre[1]}" r="5" fill="{colour}"/>')
    return parts


def axes(x_label: str, y_label: str, x_high: float, low: float, high: float, place: Place) -> list[str]:
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    middle = (TOP + bottom) / 2
    turned = f'x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})"'
    parts = [
        f'<path d="M{left} {TOP}V{bottom}H{right}" fill="none" stroke="{GREY}"/>',
        f'<text x="{(left + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
        f"<text {turned}>{escape(y_label)}</text>",
    ]
    for x in nice_ticks(0, x_high, 6)[:-1]:
        at = place((x, low)).split(",")[0]
        parts.append(f'<text x="{at}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>')
    for y in nice_ticks(low, high, 6)[1:-1]:
        at = place((0, y)).split(",")[1]
        parts.append(f'<text x="{left - 8}" y="{at}" text-anchor="end" dy="4">{y:.2f}</text>')
    return parts
