"""The tables of programs in C and of NIR files."""

from __future__ import annotations

from typing import Any

Results = dict[str, Any]


def c_table(networks: dict[str, Results]) -> str:
    """Equality, flash, RAM and time of every program."""
    lines = [
        "| network | samples, every spike equal | flash: constants + code | RAM: state + stack | "
        "time steps | µs a sample on this computer | emulated Cortex-M3 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, c in networks.items():
        board = c["board"]
        code = f"{board['code_bytes']:,}" if board else "?"
        passed = "not tried" if not board else "passed" if board["passed"] else "FAILED"
        lines.append(
            f"| {name} | {c['equal_samples']:,} of {c['samples']:,} | "
            f"{c['constant_bytes']:,} + {code} | "
            f"{c['state_bytes']:,} + {c['stack_bytes']:,} | {c['steps']} | "
            f"{c['seconds_per_sample'] * 1e6:,.0f} | {passed} |"
        )
    return "\n".join(lines)


def nir_table(networks: dict[str, Results]) -> str:
    """Shares of equal spikes and answers, of every file."""
    lines = [
        "| network | reader | equal spikes | equal answers | file, kB | plain `LIF`: said before | "
        "equal spikes | equal answers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in networks.items():
        for reader, files in found.items():
            exact, plain = files["exact"], files["plain"]
            size = "" if "refused" in exact else f"{exact['file_bytes'] / 1000:,.0f}"
            said = "refused" if "refused" in plain else _share(plain["equal_spikes"])
            lines.append(
                f"| {name} | {reader} | {_read(exact)} | {size} | {said} | {_read(plain)} |"
            )
    return "\n".join(lines)


def _read(file: Results) -> str:
    if "refused" in file:
        return "refused | "
    return f"{_share(file['read']['spikes'])} | {_share(file['read']['answers'])}"


def _share(share: float) -> str:
    """A share that says all only of all.

    Example:
        >>> _share(1.0), _share(0.9999999), _share(0.5)
        ('all', '99.99999%', '50.00%')
    """
    if share == 1:
        return "all"
    for digits in range(2, 9):
        text = f"{share:.{digits}%}"
        if not text.startswith("100"):
            return text
    return "all but a few"
