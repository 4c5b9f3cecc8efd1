"""A small writer of SVG: bars of ratios, and lines on two logarithmic axes."""

import math
from dataclasses import dataclass
from typing import Optional
from xml.sax.saxutils import escape

COLOURS = ("#3d8bd0", "#d9604a", "#4a9e6b", "#a276cc", "#b8932f")  # readable on light and on dark
FONT = 'font-family="Helvetica, Arial, sans-serif"'
STYLE = """<style>
.card { fill: #ffffff } .ink { fill: #222222 } .pale { fill: #666666 } .met { fill: #2f7d4f } .short { fill: #c77a28 }
.grid { stroke: #dcdcdc } .axis, .mark { stroke: #222222 } .open { fill: #ffffff; stroke: #222222; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
.card { fill: #161b22 } .ink { fill: #e6e6e6 } .pale { fill: #a0a0a0 } .met { fill: #4fae77 } .short { fill: #d9903f }
.grid { stroke: #333a44 } .axis, .mark { stroke: #e6e6e6 } .open { fill: #161b22; stroke: #e6e6e6 } }
</style>"""


class Drawing:
    """Colours are classes of STYLE, so that they follow the reader's choice of light or dark."""

    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [f"<title>{escape(title)}</title>", STYLE]
        self.rect(0, 0, width, height, "card")

    def text(self, x, y, text, size=12, anchor="start", kind="ink", weight="normal"):
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
                          f'font-weight="{weight}">{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, kind="grid", width=1.0):
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke-width="{width}"/>')

    def rect(self, x, y, width, height, kind):
        self.parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"/>')

    def circle(self, x, y, radius, kind):
        self.parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')

    def path(self, points, stroke, dashed):
        """Dots stand where something was measured."""
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = ' stroke-dasharray="5 4" stroke-width="1.5" opacity="0.7"' if dashed else ' stroke-width="2"'
        self.parts.append(f'<polyline points="{where}" fill="none" stroke="{stroke}"{style}/>')
        if not dashed:
            self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{stroke}"/>' for x, y in points]

    def svg(self):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" ' \
               f'height="{self.height}" {FONT}>'
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"


class LogAxis:
    """Maps values to a range of the picture, a factor to a distance."""

    def __init__(self, least, most, start, end):
        self.least, self.most, self.start, self.end = least, most, start, end

    def __call__(self, value):
        value = min(max(value, self.least), self.most)
        return self.start + (self.end - self.start) * math.log(value / self.least) / math.log(self.most / self.least)


def factor(x):
    return f"{x:g}×" if x >= 1 else f"1/{round(1 / x):g}"


@dataclass
class Bar:
    label: str
    ratio: float
    wanted: float
    without: Optional[float]  # the ratio without the ring


MARKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32)
LEFT, COLUMN, STEP, TOP = 312, 372, 22, 112  # of the bars; the labels stand left of them


def bars(title, notes, groups):
    """groups: [(heading, [Bar])], side by side over the same labels. A bar begins at 1: right of it latchfs is better."""
    labels = list(dict.fromkeys(bar.label for _, entries in groups for bar in entries))
    width, height = LEFT + COLUMN * len(groups) + 20, TOP + STEP * len(labels) + 34
    drawing = Drawing(width, height, title)
    drawing.text(16, 28, title, 17, weight="bold")
    for i, note in enumerate(notes):
        drawing.text(16, 48 + 15 * i, note, 12, kind="pale")
    legend(drawing, 16, 68, any(bar.without for _, entries in groups for bar in entries))
    for i, label in enumerate(labels):
        drawing.text(LEFT - 14, TOP + STEP * i + 15, label, 12, "end")
    for g, (heading, entries) in enumerate(groups):
        start = LEFT + COLUMN * g
        bar_column(drawing, LogAxis(MARKS[0], MARKS[-1], start, start + COLUMN - 44), heading, {e.label: e for e in entries}, labels)
    return drawing.svg()


def legend(drawing, x, y, without):
    drawing.rect(x, y - 9, 22, 10, "met")
    drawing.text(x + 28, y, "target met", 12, kind="pale")
    drawing.rect(x + 104, y - 9, 22, 10, "short")
    drawing.text(x + 132, y, "short of it", 12, kind="pale")
    drawing.line(x + 210, y - 11, x + 210, y + 3, "mark", 2)
    drawing.text(x + 218, y, "target", 12, kind="pale")
    if without:
        drawing.circle(x + 276, y - 4, 4, "open")
        drawing.text(x + 286, y, "without FUSE over io_uring, as hosts come", 12, kind="pale")


def bar_column(drawing, axis, heading, entries, labels):
    bottom = TOP + STEP * len(labels)
    drawing.text((axis.start + axis.end) / 2, TOP - 14, heading, 13, "middle", weight="bold")
    for mark in MARKS:
        drawing.line(axis(mark), TOP, axis(mark), bottom, "axis" if mark == 1 else "grid")
        drawing.text(axis(mark), bottom + 16, factor(mark), 10, "middle", "pale")
    for i, label in enumerate(labels):
        if label in entries:
            one_bar(drawing, axis, TOP + STEP * i + 4, entries[label])


def one_bar(drawing, axis, y, bar):
    x, zero, mark = axis(bar.ratio), axis(1), axis(bar.wanted)
    drawing.rect(min(x, zero), y, abs(x - zero), STEP - 8, "met" if bar.ratio >= bar.wanted else "short")
    drawing.line(mark, y - 2, mark, y + STEP - 6, "mark", 2)
    ends = [x]
    if bar.without:
        drawing.circle(axis(bar.without), y + (STEP - 8) / 2, 4, "open")
        ends.append(axis(bar.without))
    if x < zero and min(ends) > axis.start + 24:
        drawing.text(min(ends) - 7, y + 11, f"{bar.ratio:.2f}", 10, "end")
        return
    at = max(*ends, zero)
    drawing.text((mark if at - 2 <= mark < at + 36 else at) + 7, y + 11, f"{bar.ratio:.2f}", 10)


def ticks(least, most):
    return [10.0 ** e for e in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)]


def short(x):
    """10, 1k, 1M"""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:g}{letter}"
    return f"{x:g}"


def mib(x):
    """1 MiB, 10 GiB"""
    return f"{x / 1024:g} GiB" if x >= 1024 else f"{x:g} MiB"


def panels(title, note, plots):
    """plots: [(heading, x title, [(line's name, [(x, y)], dashed)], label of x)], beside each other; all y are µs. A dashed line has
    the colour of the other line of its name."""
    width, height, panel = 30 + 350 * len(plots), 440, 350
    drawing = Drawing(width, height, title)
    drawing.text(16, 28, title, 17, weight="bold")
    drawing.text(16, 48, note, 12, kind="pale")
    for i, (heading, x_title, lines, label) in enumerate(plots):
        panel_of(drawing, 60 + panel * i, 98, panel - 70, 210, heading, x_title, lines, label)
    return drawing.svg()


def panel_of(drawing, left, top, width, height, heading, x_title, lines, label=short):
    points = [p for _, line, _ in lines for p in line]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    y_ticks = ticks(min(ys), max(ys))
    x = LogAxis(min(xs), max(xs), left, left + width)
    y = LogAxis(y_ticks[0], y_ticks[-1], top + height, top)
    drawing.text(left, top - 14, heading, 13, weight="bold")
    for mark in y_ticks:
        drawing.line(left, y(mark), left + width, y(mark))
        drawing.text(left - 6, y(mark) + 4, short(mark), 10, "end", "pale")
    for mark in sorted(set(xs)):
        drawing.line(x(mark), top, x(mark), top + height)
        drawing.text(x(mark), top + height + 15, label(mark), 10, "middle", "pale")
    drawing.text(left + width / 2, top + height + 32, x_title, 11, "middle", "pale")
    names = list(dict.fromkeys(name for name, _, _ in lines))
    for name, line, dashed in lines:
        drawing.path([(x(a), y(b)) for a, b in line], COLOURS[names.index(name) % len(COLOURS)], dashed)
    for i, name in enumerate(names):
        at = top + height + 52 + 16 * i
        drawing.path([(left, at), (left + 20, at)], COLOURS[i % len(COLOURS)], False)
        drawing.text(left + 30, at + 4, name, 11)
