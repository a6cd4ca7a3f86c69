"""Results as Markdown, and their comparison with the committed ones."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.rounds import BASE, VARIANTS, Quartiles, quartiles, ratios
from benchmarks.peers.workload import TURN_SECONDS

Results = dict[str, Any]
MEASURES = {"train": "training step", "infer": "inference", "memory": "peak memory of training"}
OTHERS = {"published": "the published way", "spikingjelly": "SpikingJelly multi-step"}
"""Whom the summary compares ours with."""
BUSY = 0.5
"""Load average per core above which a machine is not idle."""


def markdown(results: Results) -> str:
    """The whole report."""
    machine, settings = results["machine"], results["settings"]
    busy = machine["load_before"] > BUSY * machine["cores"]
    lines = [
        "# This library and its peers, side by side",
        "",
        f"`{settings['command']}` on {machine['date']}: {machine['cpu']}, "
        f"{machine['cores']} cores, {settings['threads']} threads; {settings['repeats']} rounds; "
        "load average "
        f"{machine['load_before']:.1f} before and {machine['load_after']:.1f} after"
        + (
            ". **The machine was busy with other work: measure again on an idle one.**"
            if busy
            else "."
        ),
        "",
        "A training step is forward, loss, backward and optimizer (Adam); all peers start every "
        "repetition from the same weights and see the same input. In its turn a peer repeats what "
        f"is short for {TURN_SECONDS} s, so that caches and clock are as in training, and the "
        "median of the second half counts. Seconds are medians; × is how many times "
        "as long as ours, round by round: median (quartiles). Memory is the peak of "
        "the whole process above the idle one with its imports, over "
        f"{settings['memory_steps']} training steps in a fresh process. Freed memory is "
        + (
            "kept by every process, as by `bsnn-tha train`, while time is measured."
            if settings["allocator"] == "kept"
            else "handed back to the system as the C library does by itself."
        ),
        "",
        "Weights are binarized and batch norm's statistics taken as in the papers: in the "
        "published way both at every step; in ours and in the multi-step peers weights once per "
        "window and statistics per step. Thresholds are at their first values, dropout masks are "
        "drawn anew for each step, gradients are not clipped. Equal counts: of the output spikes "
        "per sample and class, in training and evaluation without dropout, against a plain loop "
        "of the paper's equations; gradients are compared as well, and a peer that computes "
        "something else stops the run before it is timed. Deep networks are compared in float64: "
        "they make of one spike more or less in their first layer, as rounding leaves them, "
        "other spikes everywhere.",
    ]
    lines += ["", *_summary(results)]
    for name, network in results["networks"].items():
        lines += ["", *_section(name, network)]
    lines += ["", *_versions(results)]
    return "\n".join(lines) + "\n"


def _summary(results: Results) -> list[str]:
    """How many times as fast ours is, in a few lines."""
    owns = [BASE, *VARIANTS]
    lines = ["| ours is faster by | " + " | ".join(f"over {t}" for t in OTHERS.values()) + " |"]
    lines.append("|---" * (1 + len(OTHERS)) + "|")
    for name, network in results["networks"].items():
        for measure in ("train", "infer"):
            cells = []
            for other in OTHERS:
                factors = (_factor(network, other, own, measure) for own in owns)
                cells.append(" / ".join("–" if f is None else f"{f:.2f}×" for f in factors))
            title = f"{name}, {MEASURES[measure]}, fp32 / bf16"
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _factor(network: Results, other: str, own: str, measure: str) -> float | None:
    """Median over the rounds; None where one of the two was not measured."""
    found = [network["peers"].get(peer, {}).get(measure) for peer in (other, own)]
    if None in found:
        return None
    return quartiles(ratios(found[0]["all"], found[1]["all"]))[1]


def _section(name: str, network: Results) -> list[str]:
    work = network["workload"]
    lines = [
        f"## {name}: {work['settings']['notation']}, batch {work['batch']}, {work['steps']} steps",
        "",
        "| | training, s | × ours | inference, s | × ours | memory, MiB | × ours | equal counts |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    notes = []
    for peer, found in network["peers"].items():
        if "skipped" in found:
            notes.append(f"- **{peer}** was not measured: {found['skipped']}.")
            continue
        cells = [peer]
        for measure in ("train", "infer"):
            cells += [f"{found[measure]['seconds'][1]:.3f}", _spread(found[measure].get("ratio"))]
        memory = found["memory"]
        cells += [f"{memory['mib']:.0f}", f"{memory['ratio']:.2f}" if "ratio" in memory else ""]
        cells.append(f"{100 * found['agreement']['equal']:.2f}%")
        lines.append(f"| {' | '.join(cells)} |")
        against = " (compared with a reference that does so too)" if found["decayed_reset"] else ""
        agreement = found["agreement"]
        notes.append(
            f"- **{peer}**: {found['notes']}{against}. Largest difference of a count "
            f"{agreement['largest']:.0f}, mean {100 * agreement['relative']:.2g}%; gradients' "
            f"cosine at least {agreement['cosine']:.4f}; first step {found['first_step']:.1f} s."
        )
    means = [p["agreement"]["mean_count"] for p in network["peers"].values() if "train" in p]
    if means:
        notes.insert(0, f"- The mean count is {means[0]:.1f} spikes per sample and class.")
    if work["static"]:
        notes.insert(
            0,
            "- The peers see the image anew at every step, as in the published code and in "
            "SpikingJelly's examples; that ours sees it once is part of what is measured.",
        )
    return [*lines, "", *notes]


def _spread(ratio: Quartiles | None) -> str:
    if ratio is None:
        return ""
    low, middle, high = ratio
    return f"**{middle:.2f}** ({low:.2f} to {high:.2f})"


def _versions(results: Results) -> list[str]:
    lines = ["Versions:", ""]
    seen = {}
    for network in results["networks"].values():
        for peer, found in network["peers"].items():
            if "versions" in found:
                seen[peer] = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    return lines + [f"- {peer}: {versions}" for peer, versions in seen.items()]


def regressions(new: Results, old: Results, tolerance: float) -> list[str]:
    """Ratios to ours that got worse by more than a share, and those that are gone.

    Only what ``new`` set out to measure is looked at: peers it was not asked
    for are missing without fault, peers it skipped are not.

    Args:
        new: of this run.
        old: the committed ones.
        tolerance: 0.1 allows a ratio of 10 to become 9.
    """
    found = []
    for name, network in new["networks"].items():
        before = old["networks"].get(name, {"peers": {}})["peers"]
        for peer, measured in network["peers"].items():
            if peer == BASE or "skipped" in before.get(peer, {"skipped": "not there"}):
                continue
            if "skipped" in measured:
                found.append(f"{name}, {peer}: measured before, now not ({measured['skipped']})")
                continue
            for measure, title in MEASURES.items():
                was, now = _ratio(before[peer][measure]), _ratio(measured[measure])
                if now * (1 - tolerance) > was if peer in VARIANTS else now < was * (1 - tolerance):
                    found.append(f"{name}, {title}: {peer} was {was:.2f}× ours, now {now:.2f}×")
    return found


def comparable(new: Results, old: Results) -> list[str]:
    """Why the two runs' ratios may differ for other reasons than the code."""
    pairs = [
        ("CPU", new["machine"]["cpu"], old["machine"]["cpu"]),
        ("threads", new["settings"]["threads"], old["settings"]["threads"]),
        ("allocator", new["settings"]["allocator"], old["settings"]["allocator"]),
    ]
    return [f"{name}: {was} then, {now} now" for name, now, was in pairs if now != was]


def _ratio(measure: Results) -> float:
    ratio = measure["ratio"]
    return ratio[1] if isinstance(ratio, list) else ratio
