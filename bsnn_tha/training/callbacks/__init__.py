"""What happens beside the training step, each a Lightning callback of its own."""

from bsnn_tha.training.callbacks.rules import ThresholdAnnealing, WeightClipping, anneal

__all__ = ["ThresholdAnnealing", "WeightClipping", "anneal"]
