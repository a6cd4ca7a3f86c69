"""Every entry that takes a tensor takes each kind of it by the same rule."""

from __future__ import annotations

import pytest
import torch

from bsnn_tha import (
    BinaryConv2d,
    BinaryLinear,
    LateralLeaky,
    Leaky,
    SpikingNetwork,
    Synaptic,
    lif_sequence,
)
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.norms.batch_norm import BatchNormPerStep, ThresholdDependentBatchNorm
from bsnn_tha.observe.recording import record

THETA = torch.tensor(1.5)


def _network():
    return SpikingNetwork("3C3-5", (2, 4, 4), beta=0.9, theta_0=1.0).eval()


# A module and how it is called with a window [time, batch, 2, 4, 4].
ENTRIES = {
    "Leaky, a step": (lambda: Leaky(0.9, 1.5), lambda m, x: m(x[0])[1]),
    "Leaky, a window": (lambda: Leaky(0.9, 1.5), lambda m, x: m.sequence(x, record=True)[1]),
    "Synaptic, a step": (lambda: Synaptic(0.5, 0.9, 1.5), lambda m, x: m(x[0])[2]),
    "Synaptic, a window": (
        lambda: Synaptic(0.5, 0.9, 1.5),
        lambda m, x: m.sequence(x, record=True)[1],
    ),
    "LateralLeaky, a step": (
        lambda: LateralLeaky(0.9, 1.5, width=3),
        lambda m, x: m(x[0, :, 0, 0])[1],
    ),
    "LateralLeaky, a window": (
        lambda: LateralLeaky(0.9, 1.5, width=3),
        lambda m, x: m.sequence(x[:, :, 0, 0], record=True)[1],
    ),
    "lif_sequence": (
        torch.nn.Identity,
        lambda m, x: (
            lif_sequence(x, torch.tensor(0.9), THETA, THETA, FastSigmoid(), record=True).membranes
        ),
    ),
    "BinaryLinear": (lambda: BinaryLinear(4, 3), lambda m, x: m(x)),
    "BinaryConv2d": (lambda: BinaryConv2d(2, 3, 3), lambda m, x: m(x[0])),
    "SpikingNetwork": (_network, lambda m, x: m(x, record=True).membranes),
    "SpikingNetwork, an image": (_network, lambda m, x: m(x[0], 4, record=True).membranes),
    "SpikingLayer": (_network, lambda m, x: m.layers[0](x, record=True).membranes),
    "Connection": (_network, lambda m, x: m.layers[0].drive(x)),
    "batch norm per step": (lambda: BatchNormPerStep(2), lambda m, x: m(x)),
    "tdBN": (lambda: ThresholdDependentBatchNorm(2, 1.0), lambda m, x: m(x)),
    "record": (_network, lambda m, x: torch.from_numpy(record(m, x)[-1].membranes)),
}

TAKEN = {
    **{
        str(dtype).removeprefix("torch."): lambda x, dtype=dtype: x.to(dtype)
        for dtype in (torch.int16, torch.int64, torch.uint8)
    },
    "bool": lambda x: x.bool(),
    "not contiguous": lambda x: x.permute(1, 0, 2, 4, 3).contiguous().permute(1, 0, 2, 4, 3),
    "channels last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    "with gradient": lambda x: x.clone().requires_grad_(),
}
REFUSED = {
    "NumPy": (lambda x: x.numpy(), r"torch\.as_tensor"),
    "sparse": (lambda x: x.to_sparse(), r"to_dense"),
    "complex": (lambda x: x.to(torch.complex64), "real numbers"),
}


@pytest.fixture
def frames():
    torch.manual_seed(0)
    return (torch.rand(6, 3, 2, 4, 4) < 0.6).float()


@pytest.mark.parametrize("name", ENTRIES)
def test_every_kind_of_tensor_means_the_same_numbers(name, frames):
    make, call = ENTRIES[name]
    module = make()
    expected = call(module, frames)
    assert expected.dtype == torch.float32
    for kind, convert in TAKEN.items():
        result = call(module, convert(frames))
        assert result.dtype == torch.float32, kind
        torch.testing.assert_close(result, expected, msg=lambda text, k=kind: f"{k}: {text}")


# record gives float32 whatever the network has; lif_sequence has no parameters.
@pytest.mark.parametrize("name", sorted(ENTRIES.keys() - {"record", "lif_sequence"}))
def test_whole_numbers_take_the_dtype_of_the_parameters(name, frames):
    make, call = ENTRIES[name]
    result = call(make().double(), frames.short())
    assert result.dtype == torch.float64


@pytest.mark.parametrize("name", [n for n in ENTRIES if "window" in n or n == "SpikingNetwork"])
def test_other_devices_and_expanded_views(name, frames):
    make, call = ENTRIES[name]
    module = make()
    torch.testing.assert_close(
        call(module, frames[:1].expand(6, *frames.shape[1:])),
        call(module, frames[:1].repeat(6, 1, 1, 1, 1)),
    )
    if name != "SpikingNetwork":
        assert call(make().to("meta"), frames.short().to("meta")).shape[0] == 6


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in ENTRIES
        for kind in REFUSED
        # Sparse tensors cannot be cut to what these take.
        if kind != "sparse" or not name.startswith("LateralLeaky")
    ],
)
def test_what_is_refused_is_refused_in_one_line(name, kind, frames):
    make, call = ENTRIES[name]
    convert, advice = REFUSED[kind]
    with pytest.raises(InvalidValueError, match=advice):
        call(make(), convert(frames))


def test_counts_of_events_charge_the_membrane_as_in_snntorch():
    # 30 steps of 1 at beta = 0.9 and theta = 3, of int16 as tonic's ToFrame gives them.
    spikes, _ = Leaky(0.9, 3.0).sequence(torch.ones(30, 1, 4).short())
    as_float, _ = Leaky(0.9, 3.0).sequence(torch.ones(30, 1, 4))
    assert spikes.sum() > 0 and torch.equal(spikes, as_float)


def test_dropout_of_whole_numbers_scales_what_it_keeps():
    kept = SeededDropout(0.6)(torch.ones(1000, dtype=torch.int16))
    assert kept.dtype == torch.float32
    assert set(kept.tolist()) == {0.0, 2.5}  # not truncated to 2
