"""Where things are that tests read or hand to other processes."""

from pathlib import Path

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
"""Of the checkout."""
