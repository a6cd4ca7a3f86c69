"""Docstrings as the code has them, made readable for the site: a Griffe extension.

Roles (``:class:`~bsnn_tha.Leaky```) become links where the site has the object, tables of
``====`` become Markdown's, and ``::`` before an indented block becomes ``:``.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(~?)([^`<]+)`")
RULE = re.compile(r"^( *)=+(?: +=+)+ *$")


class Readable(griffe.Extension):
    """Rewrites every docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value, obj.module.path)


def readable(text: str, module: str) -> str:
    """A docstring with links and tables of Markdown.

    Example:
        >>> print(readable("See :func:`~bsnn_tha.reset`::", "bsnn_tha"))
        See <autoref optional identifier="bsnn_tha.reset"><code>reset</code></autoref>:
        >>> print(readable("=  ==\\na  b\\n=  ==\\n1  2\\n=  ==", ""))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    lines = _tables(text.splitlines())
    text = re.sub(r"::$", ":", "\n".join(lines), flags=re.MULTILINE)
    # Arguments that are described together, over two lines.
    text = re.sub(r"^( {4,}\w+(?:, \w+)+,)\n +(?=\w+[:,])", r"\1 ", text, flags=re.MULTILINE)
    # The section whose prompts Griffe knows is called so.
    text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    return ROLE.sub(lambda found: _link(found, module), text)


def _link(found: re.Match[str], module: str) -> str:
    name = found[2].strip()
    shown = name.rpartition(".")[2] if found[1] else name.lstrip(".")
    target = f"{module}{name}" if name.startswith(".") else name
    return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'


def _tables(lines: list[str]) -> list[str]:
    result: list[str] = []
    index = 0
    while index < len(lines):
        if RULE.match(lines[index]):
            rows, index = _table(lines, index)
            result += rows
        else:
            result.append(lines[index])
            index += 1
    return result


def _table(lines: list[str], first: int) -> tuple[list[str], int]:
    """The table that begins at a line, in Markdown, and the line after it."""
    starts = [found.start() for found in re.finditer(r"=+", lines[first])]
    indent = " " * starts[0]
    rules = [first]
    for index in range(first + 1, len(lines)):
        if not lines[index].strip():
            break
        if RULE.match(lines[index]):
            rules.append(index)
    inside = [
        _cells(lines[index], starts) for index in range(first, rules[-1]) if index not in rules
    ]
    head = inside.pop(0) if len(rules) > 2 else [""] * len(starts)
    rows = [head, ["---"] * len(starts), *inside]
    text = [indent + "|" + "|".join(f" {cell} " for cell in row) + "|" for row in rows]
    text[1] = indent + "|" + "---|" * len(starts)
    return ["", *text, ""] if first else text, rules[-1] + 1


def _cells(line: str, starts: list[int]) -> list[str]:
    ends = [*starts[1:], len(line)]
    return [line[a:b].strip().replace("|", "\\|") for a, b in zip(starts, ends, strict=True)]
