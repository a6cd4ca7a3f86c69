"""Training with Lightning: the step, its callbacks, run folders."""
