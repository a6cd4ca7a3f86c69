"""Deployed networks: the same ones, how small, how fast; all tables of ``docs/deploy``.

    python -m benchmarks.deploy --write

============  ============================================================================
part
============  ============================================================================
``latency``   packed inference beside float peers
``fidelity``  every network of the zoo beside the trained one: accuracy, spikes, what bits cost,
              sizes, operations, energy; packed inference beside the reference
``c``         1,000 samples through the compiled C program beside the reference, every spike
              of every layer compared; the self-test on an emulated Cortex-M3; flash and RAM from
              the linker
``nir``       files read by snnTorch, SpikingJelly, norse and sinabs, with the share of equal
              spikes; beside it that of a plain ``LIF`` for each neuron
============  ============================================================================

``--only`` measures some of them, ``--zoo`` some networks; what is not measured again stays as
it is in ``docs/deploy/results.json``, from which all tables are made.

In ``latency`` every way runs the same folded network on the same samples in a process of its own,
one thread: ours in float32 (a window at a time), snnTorch (a loop over time steps, as its users
write it), SpikingJelly (multi-step), ONNX Runtime (the window as one graph). Batch norm is folded
into the peers' weights as well, and an image meets the first layer's weights once in all of them.
Peers and readers that need another environment get one under ``.bench``, or where
``BSNN_THA_BENCH`` says
(:mod:`benchmarks.peers.environments`).
"""
