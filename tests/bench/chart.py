"""A small writer of SVG: bars of ratios, and lines on two logarithmic axes."""

import math
from xml.sax.saxutils import escape

INK, FAINT, MET, SHORT = "#222222", "#d4d4d4", "#2f7d4f", "#c77a28"
COLOURS = ("#1f6fb2", "#c7432b", "#2f7d4f", "#8a5ab8", "#b08a1e")
FONT = 'font-family="Helvetica, Arial, sans-serif"'


class Drawing:
    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [f"<title>{escape(title)}</title>", f'<rect width="{width}" height="{height}" fill="#ffffff"/>']

    def text(self, x, y, text, size=12, anchor="start", fill=INK, weight="normal"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
                          f'font-weight="{weight}">{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, stroke=FAINT, width=1.0, dash=""):
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" '
                          f'stroke-width="{width}"{dashes}/>')

    def rect(self, x, y, width, height, fill, opacity=1.0):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{fill}" '
                          f'fill-opacity="{opacity}"/>')

    def path(self, points, stroke, dash=""):
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{where}" fill="none" stroke="{stroke}" stroke-width="2"{dashes}/>')
        if not dash:
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


def bars(title, note, groups):
    """groups: [(heading, [(label, ratio, wanted, met)])], side by side over the same labels. A bar begins at 1: right of it
    latchfs is better. wanted is marked by a tick."""
    labels = list(dict.fromkeys(label for _, entries in groups for label, *_ in entries))
    left, column, step, top = 312, 270, 22, 74
    width, height = left + column * len(groups) + 20, top + step * len(labels) + 34
    drawing = Drawing(width, height, title)
    drawing.text(12, 24, title, 16, weight="bold")
    drawing.text(12, 42, note, 11, fill="#666666")
    for i, label in enumerate(labels):
        drawing.text(left - 12, top + step * i + 15, label, 12, "end")
    for g, (heading, entries) in enumerate(groups):
        start = left + column * g
        bar_column(drawing, LogAxis(0.25, 16, start, start + column - 34), heading, top, step, {e[0]: e[1:] for e in entries}, labels)
    return drawing.svg()


def bar_column(drawing, axis, heading, top, step, entries, labels):
    bottom = top + step * len(labels)
    drawing.text(axis(1), top - 16, heading, 12, "middle", weight="bold")
    for mark in (0.25, 0.5, 1, 2, 4, 8, 16):
        drawing.line(axis(mark), top, axis(mark), bottom, INK if mark == 1 else FAINT)
        drawing.text(axis(mark), bottom + 16, factor(mark), 10, "middle", fill="#666666")
    for i, label in enumerate(labels):
        if label not in entries:
            continue
        ratio, wanted, met = entries[label]
        x, y = axis(ratio), top + step * i + 4
        drawing.rect(min(x, axis(1)), y, abs(x - axis(1)), step - 8, MET if met else SHORT)
        drawing.line(axis(wanted), y - 2, axis(wanted), y + step - 6, INK, 2)
        inside = x + 4 if x >= axis(1) else axis(1) + 4
        drawing.text(max(inside, axis(wanted) + 4) if abs(inside - axis(wanted)) < 30 else inside, y + 11, f"{ratio:.2f}", 10)


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
    """plots: [(heading, x title, [(line's name, [(x, y)], dash)], label of x)], beside each other; all y are µs."""
    width, height, panel = 30 + 330 * len(plots), 400, 330
    drawing = Drawing(width, height, title)
    drawing.text(12, 24, title, 16, weight="bold")
    drawing.text(12, 42, note, 11, fill="#666666")
    for i, (heading, x_title, lines, label) in enumerate(plots):
        panel_of(drawing, 60 + panel * i, 84, panel - 70, 190, heading, x_title, lines, label)
    return drawing.svg()


def panel_of(drawing, left, top, width, height, heading, x_title, lines, label=short):
    points = [p for _, line, _ in lines for p in line]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    y_ticks = ticks(min(ys), max(ys))
    x = LogAxis(min(xs), max(xs), left, left + width)
    y = LogAxis(y_ticks[0], y_ticks[-1], top + height, top)
    drawing.text(left, top - 14, heading, 12, weight="bold")
    for mark in y_ticks:
        drawing.line(left, y(mark), left + width, y(mark))
        drawing.text(left - 6, y(mark) + 4, short(mark), 10, "end", "#666666")
    for mark in sorted(set(xs)):
        drawing.line(x(mark), top, x(mark), top + height)
        drawing.text(x(mark), top + height + 15, label(mark), 10, "middle", "#666666")
    drawing.text(left + width / 2, top + height + 32, x_title, 11, "middle", "#666666")
    for i, (name, line, dash) in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        drawing.path([(x(a), y(b)) for a, b in line], colour, dash)
        drawing.line(left, top + height + 48 + 15 * i, left + 18, top + height + 48 + 15 * i, colour, 2, dash)
        drawing.text(left + 24, top + height + 52 + 15 * i, name, 11)
