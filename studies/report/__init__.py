"""What comes back from a study: the best configuration, tables, figures, a page.

runs/studies/digits-tha/
  study.json      which study this is the report of
  best.toml       the best trial's configuration; ``bsnn-tha train --config`` takes it
  trials.csv      every trial: state, values, parameters, reason, seconds
  *.png           optimization history, learning curves, importances, a contour of the two
                  settings that matter most, slices, parallel coordinates, and the Pareto
                  fronts of a study with several objectives
  report.html     all of it on one page that needs no other file
  film.gif        of trial-12, for optuna-dashboard
  trial-12/       the best trial trained again to be filmed, on request
  retrained/      the best configuration trained from several seeds, on request
"""

from studies.report.dashboard import publish
from studies.report.files import write
from studies.report.film import train_to_film, write_gif
from studies.report.fresh_seeds import retrain, retrained
from studies.report.words import best_config, state_of, text

__all__ = [
    "best_config",
    "publish",
    "retrain",
    "retrained",
    "state_of",
    "text",
    "train_to_film",
    "write",
    "write_gif",
]
