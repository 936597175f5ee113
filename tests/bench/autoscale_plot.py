"""The simulated loads as a picture: one panel each, instances over time. SVG, readable on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT, COLUMNS = 440, 170, 2
LEFT, TOP, RIGHT, BOTTOM = 34, 30, 10, 22
POINTS = 240
LEGEND = 34

STYLE = """
text{font:12px system-ui,sans-serif;fill:#333}.s{font-size:10px;fill:#666}
.f{fill:none;stroke:#999;stroke-opacity:.5}.a{fill:#8884;stroke:none}
.l{fill:none;stroke-width:1.6;stroke-linejoin:round}.c0{stroke:#0a6cc4}.c1{stroke:#2e8b3d}.c2{stroke:#d1491f}
@media(prefers-color-scheme:dark){text{fill:#ddd}.s{fill:#aaa}.c0{stroke:#5cb3ff}.c1{stroke:#6fd07f}.c2{stroke:#ff8a5c}}
"""


class Panel(NamedTuple):
    """One load: what is needed, and the lines of those that scale, all by second."""

    title: str
    needed: Sequence[int]
    lines: Mapping[str, Sequence[int]]


def picture(panels: Sequence[Panel]) -> str:
    """The whole."""
    rows = -(-len(panels) // COLUMNS)
    width, height = WIDTH * COLUMNS, HEIGHT * rows + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Instances over time under simulated loads">',
        f"<style>{STYLE.strip()}</style>",
        _legend(list(panels[0].lines)),
    ]
    for number, panel in enumerate(panels):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + LEGEND
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> str:
    marks = ['<rect class="a" x="34" y="12" width="22" height="10"/><text x="62" y="21">needed</text>']
    x = 134
    for number, name in enumerate(names):
        marks.append(f'<path class="l c{number}" d="M{x} 17h22"/><text x="{x + 28}" y="21">{escape(name)}</text>')
        x += 60 + 7 * len(name)
    return "".join(marks)


def _panel(panel: Panel) -> str:
    seconds = len(panel.needed)
    most = max(max(panel.needed), *(max(line) for line in panel.lines.values()))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    hours = seconds / 3600
    length = f"{hours:g} h" if hours >= 2 else f"{seconds // 60} min"
    steps = _steps(panel.needed, seconds, most)
    parts = [
        f'<text x="{LEFT}" y="20">{escape(panel.title)}</text>',
        f'<path class="f" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
        f'<path class="a" d="M{LEFT} {bottom}V{steps[0]}{steps[1]}V{bottom}Z"/>',
        f'<text class="s" x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{most}</text>',
        f'<text class="s" x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text class="s" x="{right}" y="{bottom + 14}" text-anchor="end">{length}</text>',
    ]
    # The first is drawn last, on top.
    for number, line in reversed(list(enumerate(panel.lines.values()))):
        start, path = _steps(line, seconds, most)
        parts.append(f'<path class="l c{number}" d="M{LEFT} {start}{path}"/>')
    return "".join(parts)


def _steps(values: Sequence[int], seconds: int, most: int) -> tuple[str, str]:
    """The height where it starts, and the stairs from there: a point for each change, at most `POINTS` of them."""
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    every = max(1, seconds // POINTS)
    height = [f"{TOP + down * (1 - value / most):.1f}".removesuffix(".0") for value in values[::every]]
    path, last = [], height[0]
    for place, value in enumerate(height):
        if value != last:
            path.append(f"H{LEFT + across * place * every / seconds:.0f}V{value}")
            last = value
    return height[0], "".join(path) + f"H{WIDTH - RIGHT}"
