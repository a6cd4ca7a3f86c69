"""``python -m bsnn_tha.campaigns.temporal_coding``: the report and the search."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from bsnn_tha.campaigns.temporal_coding.cases import write
from bsnn_tha.campaigns.temporal_coding.search import search
from bsnn_tha.freed_memory import keep_freed_memory


def main() -> None:
    """Read the arguments and do as they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    every = commands.add_parser(
        "report", help="train every case over ten seeds; write tables, figures and numbers"
    )
    every.add_argument("folder", nargs="?", type=Path, default=Path("docs/temporal-coding"))
    look = commands.add_parser(
        "search", help="look for a setting that fires once, on target, for three seeds"
    )
    look.add_argument("out", type=Path, help="file of JSON lines, one per setting")
    look.add_argument("--peak", type=float, default=1.1, help="of the target over θ∞ (paper: 1.1)")
    look.add_argument("--centre", choices=["clamped", "moving"], default="clamped")
    look.add_argument("--trials", type=int, default=100, help="settings to try")
    look.add_argument("--seed", type=int, default=0, help="of the sampler")
    given = parser.parse_args()
    keep_freed_memory()
    say = partial(print, flush=True)
    if given.command == "report":
        write(given.folder, say)
        print((given.folder / "results.md").read_text(encoding="utf-8"))
    else:
        search(given.peak, given.centre, given.trials, given.out, given.seed, say)


if __name__ == "__main__":
    main()
