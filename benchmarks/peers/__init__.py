"""This library and its peers, side by side: whole training steps and inference.

    make bench
    python -m benchmarks.peers --networks mnist,shd --threads 2

Every peer lives in an environment of its own and runs in a process of its own
(:mod:`~benchmarks.peers.worker`). All get the same weights and the same input,
show their spike counts and gradients before anything is timed, and then take
turns, so that whatever else the machine does meets all of them. What counts is
the ratio to ours within a round.

A whole run writes ``results.json`` and ``results.md`` beside this file; ``--check``
compares with the ones that are committed instead. Environments are made under
``.bench``, or where ``--cache`` or ``BSNN_THA_BENCH`` says: two gigabytes at most.
``--tiny --networks dvs`` tries the harness itself.

Only :mod:`torch` and the peer itself are imported in a peer's environment;
``bsnn_tha`` in ours alone.
"""
