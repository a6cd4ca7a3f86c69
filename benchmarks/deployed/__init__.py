"""Deployed networks in C and as NIR: are they the same ones, what do they need.

    python -m benchmarks.deployed [zoo:mnist runs/digits-tha-1 ...]

- C: 1,000 test samples through the compiled program beside the integer reference, every spike of
  every layer compared; the self-test on an emulated Cortex-M3; flash and RAM from the linker.
- NIR: files read by snnTorch, SpikingJelly, norse and sinabs, each in an environment of its own
  (:mod:`benchmarks.peers.environments`), with the share of equal spikes; beside it that of a
  plain ``LIF`` for each neuron.

Tables go to ``docs/deploy``, all figures to ``benchmarks/deployed/results.json``.
"""
