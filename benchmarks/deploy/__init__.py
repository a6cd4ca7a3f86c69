"""Packed inference beside float peers, and the tables of ``docs/deploy/results.md``.

    python -m benchmarks.deploy --write

Every way runs the same folded network on the same samples in a process of its own, one thread:
ours in float32 (a window at a time), snnTorch (a loop over time steps, as its users write it),
SpikingJelly (multi-step), ONNX Runtime (the window as one graph). Batch norm is folded into the
peers' weights as well, and an image meets the first layer's weights once in all of them. Peers
that need another environment get one under ``.bench`` (:mod:`benchmarks.peers.environments`).
"""
