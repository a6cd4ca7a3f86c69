"""This library and its peers, side by side: whole training steps and inference.

    make bench
    python -m benchmarks.peers --networks mnist,shd --threads 2

Every peer lives in an environment of its own and runs in a process of its own
(:mod:`~benchmarks.peers.worker`). All get the same weights and the same input,
show their spike counts and gradients before anything is timed, and then take
turns, so that whatever else the machine does meets all of them. What counts is
the ratio to ours within a round.

Only :mod:`torch` and the peer itself are imported in a peer's environment;
``bsnn_tha`` in ours alone.
"""
