"""A deployed network as a NIR file, with a profile for each reader.

NIR (https://neuroir.org) exchanges spiking networks between libraries. What is the same network
in a file depends on who reads it; :mod:`.profiles` says how, and the folder has a self-check
that reads the file with that library.

======================  ==========================================================
:mod:`.profiles`        the readers, and what our neurons become for each
:mod:`.scaling`         one threshold for a layer, where a reader needs that
:mod:`.neuron_nodes`    neurons as nodes
:mod:`.graph`           all nodes and edges
:mod:`.emulate`         what a reader makes of them, to say so before writing
======================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import bsnn_tha
from bsnn_tha.deploy.deployment import Deployment, Samples, with_defaults
from bsnn_tha.deploy.nir.emulate import emulate
from bsnn_tha.deploy.nir.graph import GraphMaker
from bsnn_tha.deploy.nir.profiles import PROFILES, Profile
from bsnn_tha.deploy.reference import Window, run
from bsnn_tha.errors import InvalidValueError

_OPTIONS = {"reader": "snntorch", "plain": False, "inexact": False, "samples": 8}


_PLAIN = {True: "resets to zero", False: "resets at once, for each multiple of its threshold"}


def write(deployment: Deployment, folder: Path) -> Mapping[str, Any]:
    """Fill a folder with the network as a NIR file for one reader (the target ``nir``).

    ``network.nir`` takes what the trained network takes, one frame at each time step. Beside it
    are ``golden.npz``, samples with the spikes of every layer, and ``check.py``, which reads the
    file with the reader's library and compares.

    Args:
        deployment: with options ``reader``, a name of :data:`~.profiles.PROFILES`
            (``snntorch``); ``plain``, for one ``LIF`` to each neuron, as chips may want it
            (false); ``inexact``, to write it although it fires otherwise (false); ``samples``,
            golden ones at most (8).
        folder: empty.

    Returns:
        ``reader``, ``exact``, ``equal_spikes`` (the share that the reader's equations give, in 32
        bits, on the golden samples), ``neurons`` (what each layer's became), ``file_bytes``.

    Raises:
        InvalidValueError: the reader has no node for something, would fire otherwise and
            ``inexact`` was not given, or an option is unknown.
    """
    try:
        import nir
    except ModuleNotFoundError as error:
        raise InvalidValueError(
            "the target nir needs the package nir; install it with pip install 'bsnn-tha[nir]'"
        ) from error
    options = check_options(deployment.options)
    profile = PROFILES[options["reader"]]
    fires = tuple(layer.fires for layer in deployment.whole.layers)
    maker = GraphMaker(deployment.folded, fires, profile, options["plain"])
    graph = maker.graph()
    samples = _some(deployment.samples, options["samples"])
    window = run(deployment.folded, samples.inputs, samples.num_steps)
    made = emulate(deployment.folded, maker.numbers, maker.kinds, samples.inputs, samples.num_steps)
    same = sum(int((a == b).sum()) for a, b in zip(made, window.layers, strict=True))
    share = same / sum(layer.size for layer in window.layers)
    exact = not options["plain"] or all(
        kind == "integrator" or (kind == "to zero" and layer.reset == "zero")
        for kind, layer in zip(maker.kinds, deployment.folded.layers, strict=True)
    )
    if not exact and not options["inexact"]:
        raise InvalidValueError(
            f"a plain LIF is another neuron, which {profile.name} {_PLAIN[profile.current_based]}: "
            f"{share:.2%} of {deployment.name}'s spikes would be equal; leave out plain, or give "
            "inexact as well"
        )
    graph.metadata = {
        "written_by": f"bsnn-tha {bsnn_tha.__version__}", "for": profile.name,
        "equal_spikes": f"{share:.6f}",
    }  # fmt: skip
    nir.write(folder / "network.nir", graph)
    _write_golden(folder / "golden.npz", deployment, samples, window)
    (folder / "check.py").write_text(
        _check(deployment, profile, options["plain"]), encoding="utf-8"
    )
    return {
        "reader": profile.name,
        "exact": exact,
        "equal_spikes": share,
        "neurons": list(maker.kinds),
        "file_bytes": (folder / "network.nir").stat().st_size,
    }


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The target's options, with their defaults.

    Raises:
        InvalidValueError: one of them is not known or breaks a rule.
    """
    options = with_defaults("nir", given, _OPTIONS)
    if options["reader"] not in PROFILES:
        raise InvalidValueError(
            f"reader must be one of {', '.join(PROFILES)}, but got {options['reader']!r}"
        )
    for name in ("plain", "inexact"):
        if not isinstance(options[name], bool):
            raise InvalidValueError(f"{name} must be true or false, but got {options[name]!r}")
    if type(options["samples"]) is not int or options["samples"] < 1:
        raise InvalidValueError(f"samples must be at least 1, but got {options['samples']!r}")
    return options


def _some(samples: Samples, most: int) -> Samples:
    if samples.num_steps is None:
        return Samples(samples.inputs[:, :most], samples.targets[:most], None)
    return Samples(samples.inputs[:most], samples.targets[:most], samples.num_steps)


def _write_golden(path: Path, deployment: Deployment, samples: Samples, window: Window) -> None:
    inputs = samples.inputs * np.float64(deployment.folded.input.scale)
    arrays: dict[str, Any] = {
        "inputs": (inputs[None] if samples.num_steps is not None else inputs).astype(np.float32),
        "num_steps": np.array(len(window.spikes)),
        "answers": window.scores.argmax(1),
    }
    arrays |= {f"spikes_{index}": spikes for index, spikes in enumerate(window.layers)}
    np.savez_compressed(path, **arrays)


def _check(deployment: Deployment, profile: Profile, plain: bool) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bsnn_tha.deploy.nir"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("check.py.jinja").render(
        profile=profile,
        layers=len(deployment.folded.layers),
        plain=plain,
        sums_membranes=deployment.folded.readout == "membrane_sum",
    )
