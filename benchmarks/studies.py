"""What a study costs: instant trials, and real ones against the same trainings run plainly.

    python -m benchmarks.studies --trials 1000

The first table has seconds for so many instant trials of eleven parameters, by
storage, sampler and number of worker processes, and the workers' CPU seconds, which
are the same whatever else the machine does. The second shows how many
workers a storage carries: each runs trials that wait, as if for a GPU, and
report ten epochs; the ideal is the waiting alone. The third is the ratio of CPU
seconds of a study's trial on digits to those of the same training without a
study, interleaved in one process, so that whatever else the machine does meets
both; the median over pairs, with the quartiles.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from bsnn_tha.freed_memory import keep_freed_memory
from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.session import Session
from studies.objective import TrainingObjective
from studies.space import Number, Space
from studies.storage import open_storage
from studies.study import Method, Plan, open_study
from studies.worker import Worker

Objective = Callable[[optuna.Trial], float]
SPACE = Space(Number("neuron.beta", 0.5, 0.99))
EPOCHS, EPOCH_SECONDS, ROUNDS = 10, 1.0, 3
"""Of trials that wait: epochs, seconds of each, and trials per worker."""


def plan(changes: dict[str, Any]) -> Plan:
    """Of trainings on digits."""
    return Plan(load_preset("digits").with_changes(changes).to_toml(), tuple(SPACE.table()))


SIZES = {
    "five epochs": plan({"training.epochs": 5}),
    "one epoch": plan({"training.epochs": 1}),
    "next to nothing": plan(
        {
            "training.epochs": 1,
            "data.subset": 64,
            "data.num_steps": 5,
            "network.notation": "4C3-AP2-10",
            "threshold.theta_0": [0.5, 1.0],
            "threshold.theta_inf": [1.5, 2.5],
        }
    ),
}


def instant(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{index}", 0, 1) for index in range(11))


def waiting(trial: optuna.Trial) -> float:
    value = instant(trial)
    for epoch in range(EPOCHS):
        time.sleep(EPOCH_SECONDS)
        trial.report(value, epoch)
        trial.should_prune()
    return value


def work(where: str, name: str, method: Method, objective: Objective, trials: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(where, name, create=True)
    opened = open_study(storage, where, name, SIZES["one epoch"], method)
    Worker(opened.study, objective, trials).work()


def measure(
    where: str, sampler: str, workers: int, objective: Objective, trials: int
) -> tuple[float, float]:
    """Seconds until a new study has its trials, and CPU seconds of its workers.

    Workers are forks, started at once.
    """
    name = f"{objective.__name__}-{sampler}-{workers}-{trials}"
    # Halving asks the storage about all trials at every report, as in a real study.
    method = Method(sampler, "halving" if objective is waiting else "none")
    start = time.perf_counter()
    processes = []
    for _ in range(workers):
        process = os.fork()
        if process == 0:
            try:
                work(where, name, method, objective, trials)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        processes.append(process)
    ended = [os.wait4(process, 0) for process in processes]
    if any(status for _, status, _ in ended):
        raise RuntimeError(f"a worker on {where} failed")
    used = sum(usage.ru_utime + usage.ru_stime for _, _, usage in ended)
    return time.perf_counter() - start, used


def overhead(folder: str, size: str, pairs: int) -> tuple[float, list[float]]:
    """CPU seconds of a plain training, and quartiles of the ratio of a trial to it."""
    machine = Machine(device="cpu", threads=1)
    plan, name = SIZES[size], f"overhead {size}"
    objective = TrainingObjective(plan, SPACE, machine)
    storage = open_storage(folder, name, create=True)
    study = open_study(storage, folder, name, plan, Method(pruner="none")).study

    def plainly() -> None:
        Session.prepare(plan.base, machine, objective.dataset).fit()

    done = 0

    def trial() -> None:
        nonlocal done
        done += 1
        study.enqueue_trial({"neuron.beta": plan.base.neuron.beta})  # the same training
        Worker(study, objective, done).work()

    def seconds(action: Callable[[], None]) -> float:
        start = time.process_time()
        action()
        return time.process_time() - start

    plainly()
    trial()
    # As the command does, whose trials collect garbage: what is here by now stays.
    gc.collect()
    gc.freeze()
    plain, ratios = [], []
    for pair in range(pairs):
        # In turns, so that neither is always the second.
        order = (plainly, trial) if pair % 2 else (trial, plainly)
        took = {action: seconds(action) for action in order}
        plain.append(took[plainly])
        ratios.append(took[trial] / took[plainly])
    return statistics.median(plain), statistics.quantiles(ratios)


def main() -> None:
    """Measure and print three Markdown tables."""
    parser = argparse.ArgumentParser(description="What a study costs.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--samplers", nargs="*", default=["random", "tpe"])
    parser.add_argument("--carry", nargs="*", type=int, default=[8, 32, 64], metavar="WORKERS")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keep_freed_memory()  # as `bsnn-tha study`
    with tempfile.TemporaryDirectory() as folder:
        import pgserver

        server = pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        storages = {"journal": folder, "PostgreSQL": url}
        if options.trials:
            print(f"| storage | sampler | workers | seconds for {options.trials} trials | CPU s |")
            print("|---|---|---:|---:|---:|")
        for kind, where in storages.items() if options.trials else ():
            for sampler in options.samplers:
                for workers in (1, 4):
                    took, used = measure(where, sampler, workers, instant, options.trials)
                    row = f"{kind} | {sampler} | {workers} | {took:.1f} | {used:.1f}"
                    print(f"| {row} |", flush=True)
        if options.carry:
            print(f"\n| storage | workers | {EPOCHS * EPOCH_SECONDS:g} s trials: time / ideal |")
            print("|---|---:|---:|")
        for kind, where in storages.items():
            for workers in options.carry:
                took, _ = measure(where, "tpe", workers, waiting, ROUNDS * workers)
                ideal = ROUNDS * EPOCHS * EPOCH_SECONDS
                print(f"| {kind} | {workers} | {took / ideal:.2f} |", flush=True)
        server.cleanup()
        if options.pairs:
            print("\n| training | plain, CPU s | trial / plain (quartiles) |\n|---|---:|---:|")
        for size in SIZES if options.pairs else ():
            plain, (low, middle, high) = overhead(folder, size, options.pairs)
            print(f"| {size} | {plain:.3f} | {middle:.3f} ({low:.3f} to {high:.3f}) |", flush=True)


if __name__ == "__main__":
    main()
