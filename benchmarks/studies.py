"""What a study costs: instant trials, and real ones against the same trainings run plainly.

    python -m benchmarks.studies --trials 1000

The first table has seconds for so many instant trials of eleven parameters, by
storage, sampler and number of worker processes. The second is the ratio of CPU
seconds of a study's trial on digits to those of the same training without a
study, interleaved in one process, so that whatever else the machine does meets
both; the median over pairs, with the quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna

from bsnn_tha.presets import load_preset
from bsnn_tha.training.machine import Machine
from bsnn_tha.training.memory import keep_freed_memory
from bsnn_tha.training.session import Session
from studies.objective import TrainingObjective
from studies.space import Number, Space
from studies.storage import open_storage
from studies.study import Method, Plan, open_study
from studies.worker import Worker

SPACE = Space(Number("neuron.beta", 0.5, 0.99))
PLAN = Plan(
    load_preset("digits")
    .with_changes(
        {
            "training.epochs": 1,
            "data.subset": 64,
            "data.num_steps": 5,
            "network.notation": "4C3-AP2-10",
            "threshold.theta_0": [0.5, 1.0],
            "threshold.theta_inf": [1.5, 2.5],
        }
    )
    .to_toml(),
    tuple(SPACE.table()),
)


def instant(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{index}", 0, 1) for index in range(11))


def work(where: str, name: str, sampler: str, trials: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(where, name, create=True)
    opened = open_study(storage, where, name, PLAN, Method(sampler))
    Worker(opened.study, instant, trials).work()


def measure(where: str, sampler: str, workers: int, trials: int) -> float:
    """Seconds until a new study has its trials. Processes are forks, started at once."""
    name = f"{sampler}-{workers}-{trials}"
    start = time.perf_counter()
    processes = []
    for _ in range(workers):
        process = os.fork()
        if process == 0:
            try:
                work(where, name, sampler, trials)
                os._exit(0)
            finally:
                os._exit(1)
        processes.append(process)
    if any(os.waitpid(process, 0)[1] for process in processes):
        raise RuntimeError(f"a worker on {where} failed")
    return time.perf_counter() - start


def overhead(folder: str, pairs: int) -> tuple[float, list[float]]:
    """CPU seconds of a plain training, and quartiles of the ratio of a trial to it."""
    machine = Machine(device="cpu", threads=1)
    objective = TrainingObjective(PLAN, SPACE, machine)
    storage = open_storage(folder, "overhead", create=True)
    study = open_study(storage, folder, "overhead", PLAN, Method(pruner="none")).study

    def plainly() -> None:
        Session.prepare(PLAN.base, machine, objective.dataset).fit()

    done = 0

    def trial() -> None:
        nonlocal done
        done += 1
        study.enqueue_trial({"neuron.beta": PLAN.base.neuron.beta})  # the same training
        Worker(study, objective, done).work()

    def seconds(action: Callable[[], None]) -> float:
        start = time.process_time()
        action()
        return time.process_time() - start

    plainly()
    trial()
    plain, ratios = [], []
    for pair in range(pairs):
        # In turns, so that neither is always the second.
        order = (plainly, trial) if pair % 2 else (trial, plainly)
        took = {action: seconds(action) for action in order}
        plain.append(took[plainly])
        ratios.append(took[trial] / took[plainly])
    return statistics.median(plain), statistics.quantiles(ratios)


def main() -> None:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description="What a study costs.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--samplers", nargs="*", default=["random", "tpe"])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    keep_freed_memory()  # as `bsnn-tha study`
    with tempfile.TemporaryDirectory() as folder:
        import pgserver

        server = pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        print(f"| storage | sampler | workers | seconds for {options.trials} trials |")
        print("|---|---|---:|---:|")
        for kind, where in (("journal", folder), ("PostgreSQL", url)):
            for sampler in options.samplers:
                for workers in (1, 4):
                    took = measure(where, sampler, workers, options.trials)
                    print(f"| {kind} | {sampler} | {workers} | {took:.1f} |", flush=True)
        server.cleanup()
        plain, (low, middle, high) = overhead(folder, options.pairs)
    print("\n| plain training, CPU s | trial / plain (quartiles) |\n|---:|---:|")
    print(f"| {plain:.3f} | {middle:.3f} ({low:.3f} to {high:.3f}) |")


if __name__ == "__main__":
    main()
