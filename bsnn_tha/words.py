"""Figures and sentences as tables, lines and pages have them."""

import textwrap

DASH = "–"
"""What a cell of a table has for what is not known."""


def percent(share: float | None, digits: int = 2) -> str:
    """A share in per cent; a dash for what is not known.

    Example:
        >>> percent(0.98764), percent(0.98764, 0), percent(None)
        ('98.76', '99', '–')
    """
    return DASH if share is None else f"{100 * share:.{digits}f}"


def wrapped(text: str) -> str:
    """A paragraph, or an item of a list, in the lines of a Markdown page.

    Example:
        >>> wrapped("- " + "word " * 30).splitlines()[1].startswith("  word")
        True
    """
    indent = "  " * text.startswith("- ")
    return textwrap.fill(
        text, 100, break_on_hyphens=False, break_long_words=False, subsequent_indent=indent
    )


def counted(count: int, noun: str) -> str:
    """A number of things, of one thing too.

    Example:
        >>> counted(1, "thread"), counted(12_000, "iteration")
        ('1 thread', '12,000 iterations')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """A time as people say it.

    Example:
        >>> [duration(seconds) for seconds in (0.2, 75, 600, 9600)]
        ['under a second', '75 s', '10 min', '2 h 40 min']
    """
    if seconds < 1:
        return "under a second"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def size(count: float) -> str:
    """A number of bytes as people say it.

    Example:
        >>> [size(count) for count in (500, 12_000, 999_700, 4_400_000)]
        ['500 B', '12 kB', '1 MB', '4.4 MB']
    """
    for unit in ("B", "kB", "MB"):
        if float(f"{count:.3g}") < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
