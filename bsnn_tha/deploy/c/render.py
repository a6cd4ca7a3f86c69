"""The files of a C export, from templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import bsnn_tha
from bsnn_tha.deploy.c.golden import Golden
from bsnn_tha.deploy.c.program import Program
from bsnn_tha.deploy.c.tables import Table
from bsnn_tha.errors import InvalidValueError

_AS_THEY_ARE = ("port.h", "host.c", "board/startup.c", "board/link.ld")
_MADE = {
    "network.h": "{p}.h",
    "network.c": "{p}.c",
    "golden.h": "{p}_golden.h",
    "golden.c": "{p}_golden.c",
    "selftest.c": "selftest.c",
    "Makefile": "Makefile",
    "README.md": "README.md",
}


def render(
    program: Program, golden: Golden, title: str, summary: list[str], prefix: str = "network"
) -> Mapping[str, str]:
    """Path in the folder, and text, of every file.

    Args:
        program: the network.
        golden: for its self-test.
        title: of the network, one line.
        summary: what else to say of it, a line each.
        prefix: of names in C and of file names.

    Raises:
        InvalidValueError: the prefix is no name in C.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", prefix):
        raise InvalidValueError(
            f"prefix must be a name in C of small letters, digits and _, but got {prefix!r}"
        )
    environment = Environment(
        loader=PackageLoader("bsnn_tha.deploy.c"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values: dict[str, Any] = {
        "program": program,
        "golden": golden,
        "title": title,
        "summary": summary,
        "version": bsnn_tha.__version__,
        "p": prefix,
        "P": prefix.upper(),
        "order": _order(program.network.input.shape),
        "stack": stack_bytes(program),
        "lines": lambda values: Table("", _typed(values, program)).lines(),
        "digest_types": _digest_types(program),
    }
    files = {name: environment.get_template(name).render() for name in _AS_THEY_ARE}
    for template, name in _MADE.items():
        text = environment.get_template(f"{template}.jinja").render(values)
        files[name.format(p=prefix)] = _tidied(text)
    return files


def _tidied(text: str) -> str:
    """Without the empty lines that templates leave behind."""
    text = re.sub(r"\n{3,}", "\n\n", text)
    text = re.sub(r"\n\n(?=    )", "\n", text)
    return re.sub(r"\n\n(?=\s*})", "\n", text)


def _order(shape: tuple[int, ...]) -> str:
    """How a frame's values lie.

    Example:
        >>> _order((2, 34, 34))
        '[2 maps][34 rows][34 columns]'
    """
    names = ("maps", "rows", "columns") if len(shape) == 3 else ("features",)
    return "".join(f"[{size} {name}]" for size, name in zip(shape, names, strict=True))


def _typed(values: Any, program: Program) -> Any:
    if values.dtype == np.uint32:
        return values
    return values.astype(np.int32)


def _digest_types(program: Program) -> list[str]:
    types = {layer.word_type for layer in program.layers} | {program.layers[-1].state_type}
    return sorted(types)


def stack_bytes(program: Program) -> int:
    """Of a layer's sums, in bytes, and some for calls."""
    arrays = max(
        layer.block * (len(layer.terms) + any(term.maximum for term in layer.terms))
        for layer in program.layers
    )
    return 4 * arrays + 200
