"""The command: environments, outputs, rounds, memory, report; see :mod:`benchmarks.peers`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.agreement import compare
from benchmarks.peers.client import Client, WorkerFailedError, WorkerSkippedError
from benchmarks.peers.environments import interpreter
from benchmarks.peers.rounds import BASE, VARIANTS, interleave, summary
from benchmarks.peers.tables import Results, comparable, markdown, regressions
from benchmarks.peers.workload import SOURCES, Arrays, Workload, draw, from_preset
from bsnn_tha.training.machine import processor

PEERS = ("ours", "ours-bf16", "published", "snntorch-compiled", "spikingjelly", "norse", "sinabs")
MEMORY_STEPS = 2
RESULTS = Path(__file__).parent / "results.json"


class Bench:
    """One run over some networks and peers."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def client(self, peer: str, allocator: str | None = None) -> Client:
        python = interpreter(peer, self.options.cache)
        return Client(peer, python, self.options.threads, allocator or self.options.allocator)

    def network(self, name: str) -> Results:
        """Everything about one network."""
        workload = from_preset(name)
        if self.options.tiny:
            workload = workload.shrunk(20, 4)
        arrays = self.folder / f"{name}.npz"
        np.savez(arrays, **draw(workload))  # type: ignore[arg-type]
        references = {
            decayed: self.reference(decayed, workload, arrays) for decayed in (False, True)
        }
        found: dict[str, Results] = {}
        with contextlib.ExitStack() as stack:
            clients: dict[str, Client] = {}
            for peer in self.options.peers:
                self.say(f"{name}: outputs of {peer}")
                try:
                    client = stack.enter_context(self.client(peer))
                    found[peer] = self.check_outputs(client, workload, arrays, references)
                    clients[peer] = client
                except (WorkerSkippedError, subprocess.CalledProcessError) as error:
                    found[peer] = {"skipped": reason(error)}
            for measure in ("train", "infer"):
                self.time(name, measure, clients, found)
        for peer in clients:
            self.say(f"{name}: memory of {peer}")
            with self.client(peer, "plain") as client:
                client.load(workload, arrays)
                mib = client.ask("memory", times=MEMORY_STEPS)["mib"]
            found[peer]["memory"] = {"mib": mib}
            if BASE in clients:
                found[peer]["memory"]["ratio"] = mib / found[BASE]["memory"]["mib"]
        return {"workload": dataclasses.asdict(workload), "peers": found}

    def reference(self, decayed: bool, workload: Workload, arrays: Path) -> Arrays:
        with self.client("reference-decayed" if decayed else "reference") as client:
            client.load(workload, arrays)
            return self.outputs(client)

    def outputs(self, client: Client) -> Arrays:
        path = self.folder / "outputs.npz"
        client.ask("outputs", to=str(path))
        with np.load(path) as outputs:
            return dict(outputs)

    def check_outputs(
        self, client: Client, workload: Workload, arrays: Path, references: dict[bool, Arrays]
    ) -> Results:
        """Versions, notes and agreement; nobody who computes something else is timed."""
        facts = client.load(workload, arrays)
        agreement = compare(self.outputs(client), references[facts["decayed_reset"]])
        if not agreement.holds and client.peer not in VARIANTS:
            raise WorkerFailedError(f"{client.peer} computes something else: {agreement}")
        first = client.ask("train")["seconds"]
        # Twice: a compiler compiles anew for the first training step after an inference.
        for measure in ("infer", "train", "infer"):
            client.ask(measure)
        return {
            "notes": facts["notes"],
            "decayed_reset": facts["decayed_reset"],
            "versions": facts["versions"],
            "threads": facts["threads"],
            "agreement": agreement.as_dict(),
            "first_step": first,
        }

    def time(
        self, name: str, measure: str, clients: dict[str, Client], found: dict[str, Results]
    ) -> None:
        cpu: dict[str, list[float]] = {peer: [] for peer in clients}

        def repetition(peer: str) -> float:
            reply = clients[peer].ask(measure)
            cpu[peer].append(reply["cpu"])
            return reply["seconds"]

        self.say(f"{name}: {self.options.repeats} rounds of {measure}")
        seconds = interleave(list(clients), self.options.repeats, repetition)
        for peer, values in summary(seconds).items():
            found[peer][measure] = {**values, "cpu": cpu[peer]}

    def run(self) -> Results:
        """All networks."""
        options = self.options
        before = os.getloadavg()[0]
        networks = {name: self.network(name) for name in options.networks}
        return {
            "machine": {
                "cpu": processor(),
                "cores": os.cpu_count(),
                "load_before": before,
                "load_after": os.getloadavg()[0],
                "date": datetime.date.today().isoformat(),
            },
            "settings": {
                "command": options.command,
                "threads": options.threads,
                "repeats": options.repeats,
                "allocator": options.allocator,
                "memory_steps": MEMORY_STEPS,
            },
            "networks": networks,
        }


def reason(error: Exception) -> str:
    """Why a peer was not measured, in one line without anything of this machine."""
    if isinstance(error, subprocess.CalledProcessError):
        return "its environment could not be made"
    return str(error)


def committed() -> Results | None:
    """The results in the last commit."""
    show = ["git", "show", f"HEAD:./{RESULTS.name}"]
    finished = subprocess.run(show, cwd=RESULTS.parent, capture_output=True, text=True)
    return json.loads(finished.stdout) if finished.returncode == 0 else None


def _names(allowed: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return names

    return parse


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Side by side with the peers."
    )
    networks, cache = list(SOURCES), os.environ.get("BSNN_THA_BENCH", ".bench")
    parser.add_argument("--networks", type=_names(networks), default=networks, metavar="A,B")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), metavar="A,B")
    parser.add_argument("--repeats", type=int, help="rounds (default: 9; with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--allocator", choices=["kept", "plain"], default="kept")
    parser.add_argument("--cache", type=Path, default=Path(cache), help="environments (.bench)")
    parser.add_argument("--tiny", action="store_true", help="try the harness: 20 steps, batch 4")
    parser.add_argument("--check", action="store_true", help="fail where a ratio got worse")
    parser.add_argument("--tolerance", type=float, default=0.15, help="of --check (default: 0.15)")
    options = parser.parse_args(arguments)
    if options.check and BASE not in options.peers:
        parser.error(f"--check compares ratios to {BASE}: name it among --peers")
    options.repeats = options.repeats or (3 if options.quick else 9)
    # Where the environments are is a matter of this machine, not of the results.
    told = ["--tiny"] if options.tiny else []
    told += ["--repeats", str(options.repeats)]
    told += ["--threads", str(options.threads), "--allocator", options.allocator]
    options.command = shlex.join(["python", "-m", "benchmarks.peers", *told])
    # A part, or less than the whole work, would make a table that says something else.
    options.complete = (
        sorted(options.networks) == sorted(networks)
        and sorted(options.peers) == sorted(PEERS)
        and not options.tiny
    )
    return options


def main(arguments: list[str]) -> int:
    """Measure; write or compare. 1 if a ratio got worse, 2 if the run failed."""
    options = parse(arguments)
    old = committed() if options.check else None
    if options.check and old is None:
        print("error: no results are committed to compare with", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            results = Bench(options, Path(folder)).run()
        except WorkerFailedError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(markdown(results))
    if old is not None:
        for difference in comparable(results, old):
            print(f"note: {difference}", file=sys.stderr)
        worse = regressions(results, old, options.tolerance)
        for line in worse:
            print(f"worse: {line}", file=sys.stderr)
        return 1 if worse else 0
    if options.complete:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        RESULTS.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    else:
        print("a part of the benchmark: results.json and results.md are as before", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
