"""A small table for notebooks and logs: HTML in a notebook, aligned text in a terminal, markdown for a README."""

import html
from typing import NamedTuple

from dgmlab.viz.style import HTML_FAINT, HTML_LINE, HTML_TINT


class Table(NamedTuple):
    """columns: names; rows: one tuple of strings a row; numeric: which columns hold numbers (set right)."""

    columns: tuple
    rows: tuple
    numeric: tuple
    caption: str = ""

    def __str__(self):
        return self.text()

    def text(self):
        """Aligned columns for a terminal or a log."""
        widths = [max(len(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]

        def line(row):
            cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, self.numeric, strict=True)]
            return "  ".join(cells).rstrip()

        lines = [line(self.columns), "  ".join("-" * width for width in widths), *map(line, self.rows)]
        return "\n".join([self.caption, *lines] if self.caption else lines)

    def markdown(self):
        """The same as a markdown table."""
        def line(row):
            return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"

        rule = "|" + "|".join("---:" if number else "---" for number in self.numeric) + "|"
        return "\n".join([line(self.columns), rule, *map(line, self.rows)])

    def _repr_html_(self):
        def row(cells, tag, back):
            pairs = zip(cells, self.numeric, strict=True)
            look = f"padding:5px 12px;border:0;border-bottom:1px solid {HTML_LINE};vertical-align:top;max-width:38em"
            look += ";white-space:normal"
            inner = "".join(f'<{tag} style="{look};text-align:{"right" if number else "left"}">{html.escape(cell)}</{tag}>'
                            for cell, number in pairs)
            return f'<tr style="background:{back}">{inner}</tr>'

        head = row(self.columns, "th", HTML_TINT)
        body = "".join(row(cells, "td", "transparent") for cells in self.rows)
        caption = f'<caption style="text-align:left;color:{HTML_FAINT};padding:4px 12px">{html.escape(self.caption)}</caption>'
        return (f'<table style="border-collapse:collapse;font-size:13px;margin:4px 0">{caption if self.caption else ""}'
                f"<thead>{head}</thead><tbody>{body}</tbody></table>")


def table(rows, columns=None, caption=""):
    """Build a Table.

    rows       dicts, NamedTuples or sequences; a missing entry or None prints as an empty cell
    columns    names, in order; default: the keys of the first row
    """
    rows = [row._asdict() if hasattr(row, "_asdict") else row for row in rows]
    if columns is None:
        if not rows or not isinstance(rows[0], dict):
            raise ValueError("columns were expected for rows that have no names (or no rows at all). Pass columns=(...).")
        columns = tuple(rows[0])
    columns = tuple(columns)
    values = []
    for number, row in enumerate(rows):
        cells = [row.get(name) for name in columns] if isinstance(row, dict) else list(row)
        if len(cells) != len(columns):
            raise ValueError(f"row {number} has {len(cells)} cells where {len(columns)} columns were named. Make them agree.")
        values.append(cells)
    numeric = tuple(any(_number(row[i]) for row in values) and all(_number(row[i]) or row[i] is None for row in values)
                    for i in range(len(columns)))
    return Table(tuple(map(str, columns)), tuple(tuple(map(_cell, row)) for row in values), numeric, caption)


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) or hasattr(value, "dtype") and value.ndim == 0


def _cell(value):
    """One value as text: counts with separators, other numbers to four digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _number(value):
        return f"{value:,}" if float(value).is_integer() and abs(value) < 1e15 else f"{float(value):.4g}"
    return str(value)
