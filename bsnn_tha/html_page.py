"""Pieces of pages that need no other file: tables, pictures, data, and the page around them.

They follow a browser's light or dark mode, and fit a phone: what is wide scrolls by itself.
Everything that is put in is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
STYLE = """
:root { color-scheme: light dark; --blue: #0072B2; --sky: #56B4E9; }
@media (prefers-color-scheme: dark) { :root { --blue: #56B4E9; --sky: #0072B2; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; }
@media (max-width: 30rem) {
  table { font-size: .85rem; }
  th, td { padding-right: .5rem; }
}
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
img { max-width: 100%; background: white; border-radius: .5rem; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid #8884; border-radius: .5rem; }
.small { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: .75rem; }
.small img { width: 100%; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; }
.facts div { padding: .6rem .8rem; border: 1px solid #8884; border-radius: .5rem; }
.facts b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.note { opacity: .75; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); }
.pair, .many { gap: 1rem; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 46%), 1fr)); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(10rem, 30%), 1fr)); }
.tiles { gap: 1rem; }
.tiles img { width: 100%; }
figure { margin: 0; }
figcaption { text-align: center; overflow-wrap: anywhere; }
.matrix { width: auto; font-size: .8rem; }
.matrix td, .matrix tr > * + th { text-align: center; padding: 0; }
.matrix td { min-width: 2rem; height: 2rem; border: 1px solid #8882; }
.matrix td { background: color-mix(in srgb, var(--blue) calc(.6 * var(--share, 0%)), transparent); }
.matrix th { border: none; }
.matrix tr:first-child th { vertical-align: bottom; }
.turned tr:first-child span { writing-mode: vertical-rl; transform: rotate(180deg); }
.drawing { display: block; width: 100%; max-width: 40rem; height: auto; }
.drawing text { font-family: inherit !important; }
.points circle { fill: transparent; }
.points .on { stroke: currentColor; stroke-width: 1.5; }
tr.on { background: #8883; }
.tip { position: fixed; max-width: min(24rem, 100vw - 1rem); padding: .5rem .75rem;
  pointer-events: none; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem;
  color: CanvasText; background: Canvas; border: 1px solid #888; border-radius: .5rem; }
"""


def page(title: str, body: str, refresh: int | None = None) -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        refresh: seconds after which a browser loads it again.

    Example:
        >>> print(page("a < b", "<p>c</p>").splitlines()[3])
        <title>a &lt; b</title><style>
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{again}<title>{html.escape(title)}</title><style>{STYLE}</style>
<h1>{html.escape(title)}</h1>
{body}
</html>
"""


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], keys: Sequence[str] | None = None
) -> str:
    """A table of plain text.

    Args:
        head: titles of the columns.
        rows: of as many cells.
        keys: for each row, what it is about, as for the points of drawings.

    Example:
        >>> table(("a",), [("1 < 2",)])
        '<div class="wide"><table><tr><th>a</th></tr>\\n<tr><td>1 &lt; 2</td></tr></table></div>'
    """
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    about = (f' data-key="{html.escape(key)}"' for key in keys) if keys else repeat("")
    body = "\n".join(
        f"<tr{key}>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row, key in zip(rows, about, strict=False)
    )
    return f'<div class="wide"><table><tr>{cells}</tr>\n{body}</table></div>'


def picture(figure: Figure, what: str, dpi: float = DPI) -> str:
    """A figure as part of the page.

    Args:
        figure: of Matplotlib.
        what: in words, for those who do not see it.
        dpi: pixels per inch.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(what)}" src="data:image/png;base64,{data}">'


def side_by_side(parts: Iterable[str], kind: str = "small") -> str:
    """Parts in rows of as many as fit.

    Args:
        parts: of the page.
        kind: ``"pair"`` for two in a row and one on a phone, ``"small"`` for three and one,
            ``"many"`` for four and two, ``"tiles"`` for five pictures and three.
    """
    return f'<div class="{kind}">{"".join(parts)}</div>'


def data(values: Any, name: str) -> str:
    """Values for programs that read the page, as JSON in an element of this id."""
    text = json.dumps(values).replace("<", "\\u003c")
    return f'<script type="application/json" id="{html.escape(name)}">{text}</script>'
