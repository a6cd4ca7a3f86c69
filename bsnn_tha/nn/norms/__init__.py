"""Norms of currents, chosen by name."""
