"""A layer is one operator: what compilers, exporters and transforms make of it.

No C compiler is assumed: ``torch.compile`` runs its graphs as they are.
What the operator computes is tested in test_lif.py and test_lif_numba.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from bsnn_tha import AnnealedLeaky, SpikingNetwork, lif_sequence
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import lif_sequence_reference
from bsnn_tha.equations.surrogate import (
    SURROGATES,
    ArcTan,
    FastSigmoid,
    FromSnnTorch,
    Sigmoid,
    Triangle,
)
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.functional.lif_operator import (
    described,
    lif,
    lif_backward,
    memory_order,
    read,
    written,
)

ONE = torch.tensor(1.0)
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "batch_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "channels_last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
    "time_last": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "expanded": lambda x: x[:1].expand_as(x),
    "every_other": lambda x: torch.stack([x, -x], dim=-1)[..., 0],
}
layouts = pytest.mark.parametrize("lay_out", LAYOUTS.values(), ids=LAYOUTS.keys())
backends = pytest.mark.parametrize("backend", ["reference", "numba"])


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def window(*shape, dtype=torch.float32):
    torch.manual_seed(1)
    return 0.6 + torch.randn(shape or (4, 2, 3, 5), dtype=dtype)


def arguments(current, backend, keep=True):
    start = torch.rand_like(current[0])
    scalars = [torch.tensor(value, dtype=current.dtype) for value in (0.9, 1.2, 1.0)]
    return current, start, *scalars, written(Dynamics(*scalars, FastSigmoid(2.0))), keep, backend


# Registered rightly: schema, fake version (shapes, strides, dtypes), autograd


@layouts
@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_forward_is_registered_rightly(backend, lay_out, dtype):
    current = lay_out(window(dtype=dtype)).detach().requires_grad_()
    torch.library.opcheck(lif, arguments(current, backend))
    torch.library.opcheck(lif, arguments(current.detach(), backend, keep=False))


@backends
def test_an_initial_membrane_may_lie_otherwise(backend):
    current, start, *settings = arguments(LAYOUTS["channels_last"](window()), backend)
    torch.library.opcheck(lif, (current, start.contiguous(), *settings))


@pytest.mark.parametrize("shape", [(1, 3, 2), (4, 0, 5), (5,)], ids=["one", "empty", "time_only"])
@backends
def test_forward_of_odd_shapes_is_registered_rightly(backend, shape):
    torch.library.opcheck(lif, arguments(window(*shape).requires_grad_(), backend))


@backends
@pytest.mark.parametrize("shape", [(4, 2, 3, 5), (4, 2, 3, 70)], ids=["short", "long"])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 2, 3], [0, 1, 3, 2], [3, 1, 2, 0]], ids=str)
@pytest.mark.parametrize("learned", [(False, False), (True, False), (True, True)], ids=str)
def test_backward_is_registered_rightly(backend, shape, order, learned):
    upstream, membranes = window(*shape), window(*shape)
    dynamics = Dynamics(ONE, ONE, ONE, ArcTan(2.0), "zero")
    if learned[1]:
        path = ThresholdGradient("arctan", fired_only=True)
        dynamics = Dynamics(ONE, ONE, ONE, Sigmoid(2.0), "zero", path)
    settings = ONE, ONE, ONE, membranes, written(dynamics)
    for used in ((upstream, None, None), (None, upstream, upstream[0])):
        torch.library.opcheck(
            lif_backward, (*used, membranes[0], *settings, order, *learned, backend)
        )


@pytest.mark.parametrize("layout", ["contiguous", "batch_first", "channels_last", "time_last"])
def test_gradients_lie_as_the_current(layout):
    current = LAYOUTS[layout](window()).detach()
    dense = torch.empty_like(current).copy_(current).requires_grad_()
    spikes = lif_sequence(dense, ONE, ONE, ONE, FastSigmoid()).spikes
    (gradient,) = torch.autograd.grad(spikes.sum(), dense)
    assert gradient.stride() == dense.stride()


@pytest.mark.parametrize(
    ("tensor", "order"),
    [
        (torch.empty(5, 2, 3), [0, 1, 2]),
        (torch.empty(2, 5, 3).transpose(0, 1), [1, 0, 2]),
        (torch.empty(2, 3).expand(5, 2, 3), [0, 1, 2]),
        (torch.empty(5, 2, 1).expand(5, 2, 3), [2, 0, 1]),
    ],
    ids=["contiguous", "batch_first", "constant", "expanded_features"],
)
def test_memory_order(tensor, order):
    assert memory_order(tensor) == order


# Surrogates


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_travel_by_name(name):
    shape = SURROGATES[name](3.5, 1.5)
    assert described(shape) == (name, [3.5, 1.5])
    assert SURROGATES[name](*described(shape)[1]) == shape
    path = ThresholdGradient("triangle", fired_only=True)
    tensors = ONE, 2 * ONE, 3 * ONE
    there = read(written(Dynamics(*tensors, shape, "zero", path)), *tensors)
    assert (there.surrogate, there.reset, there.threshold_gradient) == (shape, "zero", path)
    assert all(got is given for got, given in zip(there.tensors, tensors, strict=True))


class Narrower(FastSigmoid):
    """A derived class that computes something else."""

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        return super().__call__(membrane, centre) / 2


@dataclass(frozen=True)
class Box:
    """A surrogate of the user's with two numbers."""

    width: float = 1.0
    height: float = 0.5

    def __call__(self, membrane: Tensor, centre: Tensor) -> Tensor:
        return self.height * ((membrane - centre).abs() < self.width)


def gradient(surrogate, backend="auto"):
    current = window().requires_grad_()
    spikes = lif_sequence(current, 0.9 * ONE, ONE, ONE, surrogate, backend=backend).spikes
    return spikes.grad_fn.name(), torch.autograd.grad(spikes.sum(), current)[0]


@backends
def test_surrogates_without_a_name_have_their_own_way(backend, monkeypatch):
    assert described(Narrower(2.0)) is described(torch.add) is described(Box()) is None
    from snntorch import surrogate

    for shape in (Narrower(2.0), Box(0.7, 0.2), FromSnnTorch(surrogate.atan(2.0))):
        current = window().requires_grad_()
        spikes = lif_sequence_reference(current, 0.9 * ONE, ONE, ONE, shape).spikes
        (expected,) = torch.autograd.grad(spikes.sum(), current)
        name, actual = gradient(shape, backend)
        assert "LIFScan" in name
        torch.testing.assert_close(actual, expected)
    # Entered under a name, it takes the operator and gives the same.
    monkeypatch.setitem(SURROGATES, "box", Box)
    assert described(Box(0.7, 0.2)) == ("box", [0.7, 0.2])
    before = actual = gradient(FromSnnTorch(surrogate.atan(2.0)), backend)[1]
    name, actual = gradient(Box(0.7, 0.2), backend)
    assert "bsnn_tha_lif" in name and not torch.equal(before, actual)
    monkeypatch.delitem(SURROGATES, "box")
    assert torch.equal(gradient(Box(0.7, 0.2), backend)[1], actual)


@backends
@pytest.mark.parametrize("surrogate", [Triangle(0.7), Box()], ids=["named", "of_the_user"])
def test_a_path_for_theta_reaches_the_scans_both_ways(backend, surrogate):
    results = []
    for path in (ThresholdGradient(), ThresholdGradient("triangle", fired_only=True)):
        for implementation in (lif_sequence, lif_sequence_reference):
            theta = ONE.clone().requires_grad_()
            chosen = {"backend": backend} if implementation is lif_sequence else {}
            spikes = implementation(
                window(), 0.9 * ONE, theta, ONE, surrogate, threshold_gradient=path, **chosen
            ).spikes
            results += torch.autograd.grad(spikes.sum(), theta)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[2], results[3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(results[0], results[2])


# Compilers and exporters

NETWORKS = {
    "convolutions": ("4C3-AP2-3", (1, 8, 8)),
    "dense_with_dropout": ("7-3", (5,)),
}
networks = pytest.mark.parametrize(("notation", "shape"), NETWORKS.values(), ids=NETWORKS.keys())


def build(notation, shape, **settings):
    torch.manual_seed(0)
    return SpikingNetwork(
        notation, shape, beta=0.9, theta_0=0.5, theta_inf=2.0, alpha=0.1, slope=2.0, dropout=0.2,
        **settings,
    )  # fmt: skip


def training_step(network, run, input):
    torch.manual_seed(2)
    result = run(input)
    loss = (result.spikes * torch.linspace(-1, 1, 3)).sum() + result.state[0].square().sum()
    network.zero_grad()
    loss.backward()
    return [result.spikes.detach(), *result.state, *(p.grad for p in network.parameters())]


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@networks
def test_a_network_is_one_graph_with_the_same_bits(notation, shape, compiler):
    input = torch.rand(6, 2, *shape)
    plain, compiled = (build(notation, shape, norm="none") for _ in range(2))
    run = torch.compile(compiled, fullgraph=True, backend=compiler)
    for _ in range(2):
        for network in (plain, compiled):
            for layer in network.layers:
                layer.neuron.anneal()
        expected = training_step(plain, plain, input)
        actual = training_step(compiled, run, input)
        assert 0 < expected[0].mean() < 1
        for got, wanted in zip(actual, expected, strict=True):
            assert torch.equal(got, wanted)


def test_with_batch_norm_it_is_one_graph_and_differs_by_rounding():
    """Compiled networks take PyTorch's batch norm, which sums in another order."""
    input = torch.rand(6, 2, 1, 8, 8)
    plain, compiled = (build("4C3-AP2-3", (1, 8, 8)) for _ in range(2))
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    expected, actual = training_step(plain, plain, input), training_step(compiled, run, input)
    assert 0 < expected[0].mean() < 1
    assert torch.equal(actual[0], expected[0])
    for got, wanted in zip(actual[1:], expected[1:], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def nodes(graph):
    return [node.target for node in graph.nodes if node.op == "call_function"]


def test_a_layer_is_one_node_whatever_the_steps():
    seen = []

    def look(module, inputs):
        seen.append(nodes(module.graph).count(torch.ops.bsnn_tha.lif.default))
        return module.forward

    torch.compile(build("7-3", (5,)), fullgraph=True, backend=look)(torch.rand(40, 2, 5))
    assert seen == [2]


@pytest.mark.parametrize("surrogate", [Triangle(2.0), Box()], ids=["named", "of_the_user"])
def test_any_surrogate_is_compiled_with_a_path_for_theta(surrogate):
    separate = ThresholdGradient("sigmoid", fired_only=True)

    def gradients(run):
        current, theta = window(4, 3).requires_grad_(), ONE.clone().requires_grad_()
        spikes = run(
            current, 0.9 * ONE, theta, ONE.clone(), surrogate, threshold_gradient=separate
        ).spikes
        return spikes.detach(), *torch.autograd.grad(spikes.sum(), (current, theta))

    compiled = torch.compile(lif_sequence, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(gradients(compiled), gradients(lif_sequence), strict=True):
        assert torch.equal(got, wanted)


@networks
def test_export_in_eval_mode(notation, shape):
    network = build(notation, shape).eval()
    input = torch.rand(6, 2, *shape)
    exported = torch.export.export(network, (input,))
    assert nodes(exported.graph).count(torch.ops.bsnn_tha.lif.default) == len(network.layers)
    with torch.no_grad():
        expected, actual = network(input), exported.module()(input)
    assert torch.equal(actual.spikes, expected.spikes)
    for got, wanted in zip(actual.state, expected.state, strict=True):
        assert torch.equal(got, wanted)


def test_export_for_any_batch_and_number_of_steps():
    network = build("7-3", (5,)).eval()
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    exported = torch.export.export(
        network, (torch.rand(6, 2, 5),), dynamic_shapes=({0: steps, 1: batch},)
    )
    input = torch.rand(11, 7, 5)
    assert torch.equal(exported.module()(input).spikes, network(input).spikes)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and warns of every check
def test_a_trace_holds_the_operator():
    def spikes(current):
        return lif_sequence(current, ONE, ONE, ONE, FastSigmoid()).spikes

    traced = torch.jit.trace(spikes, torch.zeros(3, 2), check_trace=False)
    assert "bsnn_tha::lif" in str(traced.graph)
    assert bool(traced(torch.full((3, 2), 2.0)).all())


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_autocast(backend):
    network = build("7-3", (5,), backend=backend)
    input = torch.rand(6, 2, 5)
    windows = []
    for half in (False, True):
        torch.manual_seed(0)  # masks
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            windows.append(network(input))
    plain, window = windows
    assert window.spikes.dtype == torch.float32 and window.spikes.any()
    assert torch.equal(window.spikes, plain.spikes)
    window.spikes.float().sum().backward()
    grads = [p.grad for p in network.parameters()]
    assert all(grad.dtype == torch.float32 and bool(grad.any()) for grad in grads)
    # The layer by itself, with its float32 β and θ: reference bits.
    lif = AnnealedLeaky(0.83, 0.7, backend=backend)
    current = globals()["window"](9, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        spikes, membranes = lif.sequence(current, record=True)
        expected = lif_sequence_reference(
            current, lif.beta, lif.threshold, lif.centre, lif.surrogate
        )
    assert torch.equal(spikes, expected.spikes) and torch.equal(membranes, expected.membranes)


@backends
def test_a_second_derivative_is_an_error(backend):
    current = window().requires_grad_()
    spikes = lif_sequence(current, ONE, ONE, ONE, ArcTan(), backend=backend).spikes
    (first,) = torch.autograd.grad(spikes.square().sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no autograd formula was registered"):
        first.sum().backward()


# Membranes only where they are needed


def test_inference_keeps_no_membranes(monkeypatch):
    kept = []

    def look(*arguments):
        kept.append(arguments[6])
        return lif(*arguments)

    monkeypatch.setattr("bsnn_tha.functional.lif.lif", look)
    current, learned = window(), ONE.clone().requires_grad_()
    for beta, start, record in (
        (ONE, None, False),
        (ONE, None, True),
        (learned, None, False),
        (ONE, torch.zeros(2, 3, 5, requires_grad=True), False),
    ):
        lif_sequence(current, beta, ONE, ONE, FastSigmoid(), membrane=start, record=record)
    with torch.no_grad():
        lif_sequence(current, learned, ONE, ONE, FastSigmoid())
    assert kept == [False, True, True, True, False]


@backends
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_without_membranes_the_bits_are_the_same(backend, reset):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        current = window(9, 300, dtype=dtype)
        current[3, 5], current[4, 7] = math.nan, math.inf
        settings = 0.8 * ONE, ONE, ONE, FastSigmoid(), reset, window(1, 300, dtype=dtype)[0]
        recorded, plain = (
            lif_sequence(current, *settings, record=record, backend=backend)
            for record in (True, False)
        )
        assert torch.equal(plain.spikes, recorded.spikes)
        torch.testing.assert_close(
            plain.membrane, recorded.membranes[-1], rtol=0, atol=0, equal_nan=True
        )


def test_the_operator_itself_without_membranes_has_no_gradient():
    spikes, membranes, _ = lif(*arguments(window().requires_grad_(), "auto", keep=False))
    assert membranes.numel() == 0
    with pytest.raises(RuntimeError, match=r"^a window run without its membranes has no gradient"):
        spikes.sum().backward()
