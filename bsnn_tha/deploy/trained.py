"""What a trained network has that its configuration does not give: for the packed file."""

from __future__ import annotations

import torch

from bsnn_tha.config import RunConfig
from bsnn_tha.deploy.network import Array
from bsnn_tha.nn.network import SpikingNetwork

LATENT = "latent_weight"
_COUNTER = "num_batches_tracked"  # of use to nobody here


def trained_parameters(network: SpikingNetwork, config: RunConfig | None) -> dict[str, Array]:
    """What is not as its configuration makes it, but for the weights; nothing without one."""
    if config is None:
        return {}
    fresh = untrained(config, network.input_shape).state_dict()
    return {
        name: values.detach().cpu().numpy()
        for name, values in network.state_dict().items()
        if not name.endswith((LATENT, _COUNTER)) and not torch.equal(values.cpu(), fresh[name])
    }


def untrained(config: RunConfig, input_shape: tuple[int, ...]) -> SpikingNetwork:
    """As the configuration makes it; random numbers of others are left alone."""
    with torch.random.fork_rng(devices=[]):
        return config.build_network(input_shape)
