"""What a linker made of a C export: sizes from its map file (GNU ld, ``-Wl,-Map``).

Functions and arrays must have sections of their own (``-ffunction-sections -fdata-sections``),
as the exported Makefile has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bsnn_tha.errors import DataError

# " .rodata.weights_0  0x00000e18  0xc80 network.arm.o", of which a long name has its own line.
_SECTION = re.compile(
    r"^ \.(text|rodata|data|bss)\.(\S+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S+)", re.MULTILINE
)
_START = "Linker script and memory map"


@dataclass(frozen=True)
class Linked:
    """Bytes of every function and array that the linker kept of an object file.

    Attributes:
        text: of functions, by name.
        rodata: of constant arrays.
        data, bss: of variables: with a first value, and without.
    """

    text: dict[str, int]
    rodata: dict[str, int]
    data: dict[str, int]
    bss: dict[str, int]

    @property
    def flash(self) -> int:
        """Functions, constants and first values."""
        return sum(sum(kind.values()) for kind in (self.text, self.rodata, self.data))


def linked(path: Path, of: str) -> Linked:
    """Read a map file.

    Args:
        path: of the map.
        of: an object file, as it was named to the linker.

    Raises:
        DataError: it is no map, or knows nothing of the file.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    _, found, memory = text.partition(_START)
    if not found:
        raise DataError(f"{path} is no map of GNU ld: it has no {_START!r}; link with -Wl,-Map")
    sections: dict[str, dict[str, int]] = {"text": {}, "rodata": {}, "data": {}, "bss": {}}
    for kind, name, size, file in _SECTION.findall(memory):
        if file == of:
            sections[kind][name] = sections[kind].get(name, 0) + int(size, 16)
    if not any(sections.values()):
        raise DataError(f"{path} has no section of {of}; was it linked under another name?")
    return Linked(**sections)
