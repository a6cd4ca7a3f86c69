"""A deployed network as C99: a folder with the network, golden vectors and a self-test.

The program computes in whole numbers what :mod:`bsnn_tha.deploy.reference` computes, spike by
spike. It asks for no library, no memory but a struct that the caller owns, and nothing that C
leaves undefined.

======================  ==========================================================
:mod:`.layout`          how spikes and weights lie in words
:mod:`.tables`          constants in flash
:mod:`.program`         a program before it is text: functions, constants, state, types
:mod:`.translate`       from a network to such a program
:mod:`.golden`          samples, and what the reference makes of them
:mod:`.render`          all of that as text, from ``templates/``
:mod:`.linked`          what a linker made of it: flash and RAM
======================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bsnn_tha.deploy.c.golden import golden
from bsnn_tha.deploy.c.program import Program
from bsnn_tha.deploy.c.render import render, stack_bytes
from bsnn_tha.deploy.c.translate import program
from bsnn_tha.deploy.deployment import Deployment, Samples, with_defaults
from bsnn_tha.deploy.network import Array
from bsnn_tha.errors import InvalidValueError

_OPTIONS = {"prefix": "network", "samples": 8}
_GOLDEN_BYTES = 1 << 19
"""Of golden inputs at most, however many samples are asked for; one there is always."""


def write(deployment: Deployment, folder: Path) -> Mapping[str, Any]:
    """Fill a folder with the network in C99 (the target ``c``).

    Args:
        deployment: with options ``prefix``, of names in C (``network``), and ``samples``, golden
            vectors at most (8).
        folder: empty.

    Returns:
        ``constant_bytes`` (tables, in flash; code comes to that), ``state_bytes`` (RAM),
        ``stack_bytes`` (RAM while a time step runs, roughly), ``golden_samples``, and ``tables``,
        the bytes of each.

    Raises:
        InvalidValueError: C cannot do the network exactly, or an option is unknown.
    """
    options = check_options(deployment.options)
    made = program(deployment.whole)
    inputs = _some(deployment.samples, int(options["samples"]), made)
    vectors = golden(made, inputs, deployment.samples.num_steps)
    summary = _summary(deployment, made)
    for name, text in render(
        made, vectors, deployment.name, summary, str(options["prefix"])
    ).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {
        "constant_bytes": made.constant_bytes,
        "state_bytes": made.state_bytes,
        "stack_bytes": stack_bytes(made),
        "golden_samples": len(vectors.answers),
        "tables": {table.name: table.nbytes for table in made.tables()},
    }


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The target's options, with their defaults.

    Raises:
        InvalidValueError: one of them is not known or breaks a rule.
    """
    options = with_defaults("c", given, _OPTIONS)
    samples = options["samples"]
    if type(samples) is not int or samples < 1:
        raise InvalidValueError(f"samples must be at least 1, but got {samples!r}")
    return options


def _some(samples: Samples, most: int, made: Program) -> Array:
    """The first of the samples, as many as flash should be spent on."""
    images = samples.num_steps is not None
    frames = 1 if images else len(samples.inputs)
    each = frames * made.input_size * int(made.input_type.strip("uint_")) // 8
    count = max(1, min(most, _GOLDEN_BYTES // each))
    return samples.inputs[:count] if images else samples.inputs[:, :count]


def _summary(deployment: Deployment, made: Program) -> list[str]:
    network, facts = deployment.whole, deployment.facts
    kind = "images" if made.constant_input else "events"
    lines = [
        f"layers {deployment.trained.notation} on {kind} of "
        f"{' x '.join(map(str, network.input.shape))}, {network.num_steps} time steps",
        f"{network.weight_bits} weights of one bit; states of {network.state_bits} bits, decays "
        f"in multiples of 2^-{network.decay_bits}",
    ]
    for name in ("preset", "seed", "accuracy", "labels"):
        value = facts.get(name)
        if isinstance(value, float):
            value = f"{value:.2%}"
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        if value not in (None, ""):
            lines.append(f"{name}: {value}")
    return lines
