"""How each reader takes NIR's neurons, and what a deployed network becomes for it.

NIR's neurons reset to a value and fire *above* their threshold; ours subtract the threshold one
step later (Eq. 1) and fire *at* it. What is the same network in a file depends on who reads it:

=============  ==================================================================================
β              the share kept per step is 1 − dt/τ (snnTorch, SpikingJelly, norse), exp(−1/τ)
               with τ in steps (sinabs); τ is written so that the reader gets β back
θ              where a reader fires above it, the largest number below θ is written; where it
               takes one number for a layer, channels are scaled to share one
subtraction    ``CubaLIF`` without a membrane of its own: u is its synaptic current, which no
               reader resets, and the spikes come back through weights −θ, one step later. That
               is Eq. 1 to the letter. sinabs has no ``CubaLIF``: a leaky integrator, ``LI``, and
               neurons without memory that compare
to zero        ``CubaLIF`` without a synaptic current of its own, which all reset at once; before
               the next step's decay that is the same
plain          one ``LIF`` for each neuron, which is another network: snnTorch, SpikingJelly and
               norse reset it to zero, sinabs takes θ off at once, for every multiple of it
=============  ==================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bsnn_tha.deploy.network import Layer

Neurons = Literal["self-inhibition", "at once", "to zero", "no reset", "integrator"]
"""``"at once"`` is never the same network; ``"integrator"`` never fires."""


@dataclass(frozen=True)
class Profile:
    """A reader of NIR files.

    Attributes:
        name: of the reader, as its package is installed.
        dt: of a time step, in seconds, as the reader has it.
        fires_above: whether a membrane at its threshold stays silent.
        one_threshold: whether a layer has one threshold.
        one_decay: whether a layer has one decay.
        pooling: NIR's node that it knows.
        current_based: whether it knows ``CubaLIF``.
        pairs: whether −θ has to be written as two nodes, for it takes a loop through one node
            for a recurrent layer of its own.
        joins: whether a layer may be driven by several.
        states_maps: whether it reads neurons of maps that state the maps' size.
        leaky_input: whether a plain ``LIF`` takes the share 1 − β of its current.
        imports, read, membrane, plain_membrane: Python of the self-check.
    """

    name: str
    dt: float
    fires_above: bool
    one_threshold: bool
    one_decay: bool
    pooling: Literal["AvgPool2d", "SumPool2d"]
    current_based: bool
    pairs: bool
    joins: bool
    states_maps: bool
    leaky_input: bool
    imports: str
    read: str
    membrane: str
    plain_membrane: str


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "snntorch", 1e-4, True, True, False, "AvgPool2d", True, True, True, True, False,
            "from snntorch.import_nir import import_from_nir",
            "import_from_nir(graph)",
            "module.syn",
            "module.mem",
        ),
        Profile(
            "spikingjelly", 1e-4, False, True, True, "AvgPool2d", True, False, True, True, False,
            "from spikingjelly.activation_based.nir_exchange import import_from_nir",
            "import_from_nir(graph)",
            "output[1][list(dict(module.module.named_memories())).index('c')]",
            "output[1][list(dict(module.module.named_memories())).index('v')]",
        ),
        Profile(
            "norse", 1e-4, True, False, False, "SumPool2d", True, False, False, True, True,
            "import norse.torch",
            "norse.torch.from_nir(graph, dt=1e-4)",
            "output[1][0].v",
            "output[1].v",
        ),
        Profile(
            "sinabs", 1.0, False, False, True, "SumPool2d", False, False, False, False, False,
            "from sinabs.nir import from_nir",
            "from_nir(graph, batch_size=len(golden['inputs'][0]))",
            "output",
            "module.v_mem.squeeze(1)",
        ),
    )
}  # fmt: skip
"""By name."""


def neurons(profile: Profile, layer: Layer, fires: bool, plain: bool) -> Neurons:
    """What a layer's neurons become.

    Args:
        profile: of the reader.
        layer: of the folded network.
        fires: whether any of its neurons ever can.
        plain: whether as one ``LIF`` each.
    """
    if not fires:
        return "integrator"
    if plain:
        return "to zero" if profile.current_based else "at once"
    if layer.reset == "none":
        return "no reset"
    return "to zero" if layer.reset == "zero" else "self-inhibition"


def never() -> float:
    """A threshold that no membrane reaches, within 32 bits of floating point."""
    return float(np.finfo(np.float32).max) / 4
