"""One way to run a network, timed in this process; prints JSON.

    python -m benchmarks.deploy.worker WAY FOLDER BATCH

The folder has ``layers.npz``, ``inputs.npy`` and ``facts.json``, as
:mod:`benchmarks.deploy.__main__` writes them. Of this project a peer imports this file only.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 1.0
"""Of timed calls."""


def timed(call: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> dict[str, Any]:
    """Median processor time of a call, and what it answers.

    All ways take one thread: what else the machine does meanwhile counts for nothing.
    """
    answers = call()
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < 5 or (time.perf_counter() - begin < SECONDS and len(seconds) < 2000):
        prepare()
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return {"seconds": statistics.median(seconds), "answers": answers.tolist()}


def _read(folder: Path, batch: int) -> tuple[list[dict[str, Any]], Any, dict[str, Any]]:
    import numpy as np

    facts = json.loads((folder / "facts.json").read_text())
    inputs = np.load(folder / "inputs.npy")
    inputs = inputs[:batch] if facts["still"] else inputs[:, :batch]
    arrays = np.load(folder / "layers.npz")
    layers = [
        {**layer, "weight": arrays[f"weight{i}"], "bias": arrays[f"bias{i}"]}
        for i, layer in enumerate(facts["layers"])
    ]
    return layers, np.ascontiguousarray(inputs), facts


def _current(layer: dict[str, Any], spikes: Any) -> Any:
    """The current of samples ``[samples, ...]`` in PyTorch."""
    from torch.nn import functional as F

    if layer["kind"] == "dense":
        return F.linear(spikes.flatten(1), layer["weight"], layer["bias"])
    maps = F.conv2d(spikes, layer["weight"], layer["bias"], layer["stride"], layer["padding"])
    if layer["pool"] == 1:
        return maps
    pool = F.avg_pool2d if layer["pooling"] == "sum" else F.max_pool2d
    return pool(maps, layer["pool"])


def _torch(folder: Path, batch: int) -> tuple[list[dict[str, Any]], Any, dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    layers, inputs, facts = _read(folder, batch)
    for layer in layers:
        layer |= {name: torch.from_numpy(layer[name]).float() for name in ("weight", "bias")}
    return layers, torch.from_numpy(inputs).float(), facts


def snntorch(folder: Path, batch: int) -> dict[str, Any]:
    """A loop over time steps."""
    import snntorch as snn
    import torch

    layers, inputs, facts = _torch(folder, batch)
    neurons = [
        snn.Leaky(
            beta=layer["beta"],
            threshold=layer["theta"],
            reset_mechanism="subtract" if layer["fires"] else "none",
        )
        for layer in layers
    ]

    def call() -> Any:
        with torch.no_grad():
            states = [neuron.init_leaky() for neuron in neurons]
            once = _current(layers[0], inputs) if facts["still"] else None
            scores: Any = 0
            for step in range(facts["num_steps"]):
                spikes: Any = None
                for i, (layer, neuron) in enumerate(zip(layers, neurons, strict=True)):
                    given = inputs[step] if not facts["still"] and i == 0 else spikes
                    current = once if i == 0 and once is not None else _current(layer, given)
                    spikes, states[i] = neuron(current, states[i])
                scores = scores + (spikes if facts["counts"] else states[-1])
            return scores.argmax(-1)

    return timed(call)


def spikingjelly(folder: Path, batch: int) -> dict[str, Any]:
    """Whole windows."""
    import torch
    from spikingjelly.activation_based import functional, neuron

    layers, inputs, facts = _torch(folder, batch)
    nodes: Any = torch.nn.ModuleList(
        neuron.LIFNode(
            tau=1 / (1 - layer["beta"]),
            decay_input=False,
            v_threshold=layer["theta"],
            v_reset=None,
            step_mode="m",
            store_v_seq=not layer["fires"],
        )
        for layer in layers
    )

    def call() -> Any:
        with torch.no_grad():
            functional.reset_net(nodes)
            spikes: Any = inputs
            for i, (layer, node) in enumerate(zip(layers, nodes, strict=True)):
                if i == 0 and facts["still"]:
                    once = _current(layer, inputs)
                    current = once.expand(facts["num_steps"], *once.shape)
                else:
                    current = _current(layer, spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])
                spikes = node(current)
            read = spikes if facts["counts"] else node.v_seq
            return read.sum(0).argmax(-1)

    return timed(call)


def ours(folder: Path, batch: int) -> dict[str, Any]:
    """The trained network itself, float32."""
    import torch

    from benchmarks.deploy.networks import NETWORKS

    torch.set_num_threads(1)
    _, inputs, facts = _read(folder, batch)
    network, samples = NETWORKS[facts["name"]]().trained, torch.from_numpy(inputs).float()
    steps = facts["num_steps"] if facts["still"] else None

    def call() -> Any:
        with torch.no_grad():
            window = network(samples, steps, record=not facts["counts"])
            read = window.spikes if facts["counts"] else window.recorded_membranes()
            return read.sum(0).argmax(-1)

    return timed(call)


def packed(folder: Path, batch: int) -> dict[str, Any]:
    """Compiled loops over bits."""
    from bsnn_tha.deploy.infer import Runner
    from bsnn_tha.deploy.packed import read

    _, inputs, facts = _read(folder, batch)
    network = read(folder / "network.safetensors").network
    runner, whole = Runner(network), network.input.encode(inputs)
    steps = facts["num_steps"] if facts["still"] else None
    return timed(lambda: runner.run(whole, steps).scores.argmax(-1))


def limit(folder: Path, batch: int) -> dict[str, Any]:
    """What the arithmetic of packed bits alone would take on this machine."""
    from benchmarks.deploy.limit import limit_seconds
    from bsnn_tha.deploy.infer import Runner
    from bsnn_tha.deploy.packed import read

    _, inputs, facts = _read(folder, batch)
    network = read(folder / "network.safetensors").network
    whole, steps = network.input.encode(inputs), facts["num_steps"] if facts["still"] else None
    answers = Runner(network).run(whole, steps).scores.argmax(-1)
    return {"seconds": limit_seconds(network, whole, steps), "answers": answers.tolist()}


def onnxruntime(folder: Path, batch: int) -> dict[str, Any]:
    """The graph of a window, made by :func:`export` in our environment."""
    import onnxruntime as ort

    _, inputs, _ = _read(folder, batch)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = folder / f"window-{batch}.onnx"
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {"inputs": inputs.astype("float32")}
    return timed(lambda: session.run(None, given)[0].argmax(-1))


def export(folder: Path, batch: int) -> dict[str, Any]:
    """Write that graph; it adds up what the answer is read from."""
    import torch

    layers, inputs, facts = _torch(folder, batch)

    class Window(torch.nn.Module):
        def forward(self, inputs: Any) -> Any:
            spikes = inputs
            for i, layer in enumerate(layers):
                if i == 0 and facts["still"]:
                    current = [_current(layer, inputs)] * facts["num_steps"]
                else:
                    current = _current(layer, spikes.flatten(0, 1))
                    current = current.reshape(facts["num_steps"], batch, *current.shape[1:])
                v: Any = torch.zeros_like(current[0])
                fired, membranes = [], []
                last: Any = torch.zeros_like(current[0])
                for step in range(facts["num_steps"]):
                    v = layer["beta"] * v + current[step]
                    if layer["fires"]:
                        v = v - last * layer["theta"]
                        last = (v >= layer["theta"]).float()
                        fired.append(last)
                    membranes.append(v)
                if layer["fires"]:
                    spikes = torch.stack(fired)
            return (spikes if facts["counts"] else torch.stack(membranes)).sum(0)

    torch.onnx.export(
        Window().eval(), (inputs,), folder / f"window-{batch}.onnx", dynamo=False,
        input_names=["inputs"], opset_version=17,
    )  # fmt: skip
    return {}


WAYS = {
    function.__name__: function
    for function in (packed, limit, ours, snntorch, spikingjelly, onnxruntime, export)
}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
