"""Makes a page's HTML fit for a phone: tables, options and pictures.

Markdown says nothing of widths, so they are found out from what a cell holds.
"""

from __future__ import annotations

import html
import re

SHORT, SOME, LONG = 24, 30, 100
"""Characters of a cell: of figures, which is not broken; of text that gets some width, or more."""
CELL = re.compile(r"<td(?P<rest>[^>]*)>(?P<inside>.*?)</td>", re.DOTALL)
CODE = re.compile(r"(<pre.*?</pre>)|<code>(.*?)</code>", re.DOTALL)
IMAGE = re.compile(r'(<a [^>]*>\s*)?(<img [^>]*src="([^"]+)"[^>]*>)')


def fit(page: str) -> str:
    """The HTML of a page, with all of this."""
    return linked(unbroken(sized(page)))


def sized(page: str) -> str:
    """Cells of tables by their content: figures stay in a line, long texts get some width.

    Example:
        >>> sized('<td>98.50 (0.32)</td><td style="a">digits</td>')
        '<td class="figures">98.50 (0.32)</td><td style="a">digits</td>'
        >>> sized("<td>" + 50 * "a" + "</td>").partition(">")[0]
        '<td class="some"'
    """

    def cell(found: re.Match[str]) -> str:
        text = html.unescape(re.sub(r"<[^>]*>", "", found["inside"])).strip()
        if len(text) <= SHORT and re.fullmatch(r"[\d\s.,/()%×–−+:-]+", text):
            kind = "figures"
        elif len(text) > SOME:
            kind = "long" if len(text) > LONG else "some"
        else:
            return found[0]
        return f'<td class="{kind}"{found["rest"]}>{found["inside"]}</td>'

    return CELL.sub(cell, page)


def unbroken(page: str) -> str:
    """Options of commands within text, which would be broken behind their dashes.

    Example:
        >>> unbroken("<code>train --seeds 5</code>, <pre><code>--seeds</code></pre>")
        '<code>train <span>--seeds</span> 5</code>, <pre><code>--seeds</code></pre>'
    """

    def code(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        inside = re.sub(r"(?<![\w-])(--?\w[\w-]*)", r"<span>\1</span>", found[2])
        return f"<code>{inside}</code>"

    return CODE.sub(code, page)


def linked(page: str) -> str:
    """Pictures lead to themselves: a tap shows them as large as they are.

    Example:
        >>> linked('<img alt="a" src="a.png">')
        '<a href="a.png"><img alt="a" src="a.png"></a>'
        >>> linked('<a href="b"><img alt="a" src="a.png"></a>')
        '<a href="b"><img alt="a" src="a.png"></a>'
    """

    def image(found: re.Match[str]) -> str:
        link, tag, source = found.groups()
        return found[0] if link else f'<a href="{source}">{tag}</a>'

    return IMAGE.sub(image, page)
