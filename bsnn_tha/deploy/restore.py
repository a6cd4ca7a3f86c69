"""From a packed file back to the network that was trained, to evaluate it or train it on.

Its parameters but the weights are in the file as they were. Weights are there as their signs,
which is all that a binary layer computes with; latent weights come back as −1 and +1.
"""

from __future__ import annotations

import numpy as np
import torch

from bsnn_tha.config import RunConfig
from bsnn_tha.deploy.fold import fold
from bsnn_tha.deploy.packed import Packed
from bsnn_tha.deploy.trained import LATENT, untrained
from bsnn_tha.errors import BsnnThaError, DeployError
from bsnn_tha.nn.layer import SpikingLayer
from bsnn_tha.nn.network import SpikingNetwork
from bsnn_tha.nn.notation import parse_network


def spiking_network(packed: Packed, where: str = "the packed network") -> SpikingNetwork:
    """The network that was trained, in evaluation mode.

    Raises:
        DeployError: the file has no configuration, or one of another network.
    """
    config = configuration(packed, where)
    shapes = [layer.output_shape for layer in packed.network.layers]
    # Before anything is built: a configuration may ask for any size.
    plans = parse_network(config.network.notation, packed.network.input.shape)
    if [plan.output_shape for plan in plans] != shapes:
        raise DeployError(f"{where} has a configuration of another network; export it again")
    network = untrained(config, packed.network.input.shape)
    state = network.state_dict()
    given = {name: torch.from_numpy(values.copy()) for name, values in packed.trained.items()}
    for name, values in given.items():
        if name not in state or state[name].shape != values.shape or LATENT in name:
            raise DeployError(f"{where} has parameters of another network; export it again")
    network.load_state_dict({**state, **given})
    _set_signs(network, packed, where)
    return network.eval()


def configuration(packed: Packed, where: str = "the packed network") -> RunConfig:
    """Of the run that trained it.

    Raises:
        DeployError: the file has none that can be read.
    """
    if packed.config is None:
        raise DeployError(
            f"{where} has no configuration, from which to build the trained network; "
            "export it from a run"
        )
    try:
        return RunConfig.from_toml(packed.config, f"the configuration in {where}")
    except BsnnThaError as error:
        raise DeployError(str(error)) from None


@torch.no_grad()
def _set_signs(network: SpikingNetwork, packed: Packed, where: str) -> None:
    """Latent weights, with the signs that folding put into them taken out again."""
    deployed = packed.network
    latent = [
        (connection.synapse, term)
        for module, layer in zip(network.layers, deployed.layers, strict=True)
        if isinstance(module, SpikingLayer)
        for (connection, _), term in zip(
            module.connections(), [t for t in layer.terms if t.weights is not None], strict=True
        )
    ]
    for synapse, term in latent:
        weights = torch.from_numpy(np.asarray(term.weights, np.float32))
        parameter = synapse.get_parameter(LATENT)
        if parameter.shape != weights.shape:
            raise DeployError(f"{where} has weights of another network; export it again")
        parameter.copy_(weights)
    again = fold(network, deployed.input, deployed.readout, deployed.num_steps)
    turned = (t for layer in again.layers for t in layer.terms if t.weights is not None)
    for (synapse, term), folded in zip(latent, turned, strict=True):
        assert folded.weights is not None and term.weights is not None
        signs = torch.from_numpy((folded.weights * term.weights).astype(np.float32))
        synapse.get_parameter(LATENT).mul_(signs)
