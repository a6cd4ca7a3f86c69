"""Figures as tables and lines have them."""


def percent(share: float | None) -> str:
    """A share in per cent with two decimals; a dash for what is not known.

    Example:
        >>> percent(0.98764), percent(None)
        ('98.76', '–')
    """
    return "–" if share is None else f"{100 * share:.2f}"
