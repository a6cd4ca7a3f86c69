"""``bsnn-tha presets``: the published settings."""

from __future__ import annotations

from bsnn_tha.presets import preset_names


def presets() -> None:
    """List the published settings and the tables they come from."""
    from bsnn_tha.cli import show
    from bsnn_tha.presets import load_preset

    print(
        show.presets(
            [load_preset(name, v) for name, variants in preset_names().items() for v in variants]
        )
    )
