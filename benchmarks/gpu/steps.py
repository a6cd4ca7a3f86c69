"""Stage 3: whole training steps and windows without gradients, beside the peers.

The same workloads, weights and references as :mod:`benchmarks.peers`. Nobody whose outputs
differ from the reference's is timed, but for bfloat16, whose agreement is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.setting import Row, Setting
from benchmarks.peers.agreement import compare
from benchmarks.peers.rounds import VARIANTS
from benchmarks.peers.worker import Peer
from benchmarks.peers.workload import PAPERS, Arrays, Workload, draw, from_preset

PEERS = ("ours", "ours-bf16", "published", "spikingjelly")


def rows(setting: Setting) -> Iterator[Row]:
    """A line for each network and peer."""
    for name in PAPERS:
        workload = from_preset(name)
        if setting.tiny:
            workload = workload.shrunk(30, 2)
        arrays = draw(workload)
        references: dict[bool, Arrays] = {}
        for peer in PEERS:
            found = _peer(setting, peer, workload, arrays, references)
            yield {"network": name, "peer": peer, **found}


def _peer(
    setting: Setting,
    peer: str,
    workload: Workload,
    arrays: Arrays,
    references: dict[bool, Arrays],
) -> Row:
    plain = workload.without_dropout()
    try:
        checked = Peer(peer, plain, arrays, setting.device)
        decayed = checked.decayed_reset
        if decayed not in references:
            reference = "reference-decayed" if decayed else "reference"
            references[decayed] = Peer(reference, plain, arrays, setting.device).outputs()
        agreement = compare(checked.outputs(), references[decayed])
        del checked
        if not (agreement.holds or peer in VARIANTS):
            return {"skipped": f"computes something else: {agreement}"}
        timed = Peer(peer, workload, arrays, setting.device)
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        train = setting.median_ms(timed.train, seconds=2.0)
        memory = torch.cuda.max_memory_allocated() if setting.device == "cuda" else 0
        infer = setting.median_ms(timed.infer, seconds=1.0)
    except Exception as error:  # a peer that cannot run here must not end the others
        return {"skipped": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    return {
        "train_ms": train,
        "infer_ms": infer,
        "mib": memory / 2**20,
        "equal": agreement.equal,
        "cosine": agreement.cosine,
    }
