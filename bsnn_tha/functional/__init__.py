"""Pure functions on tensors: no state, no training loop."""
