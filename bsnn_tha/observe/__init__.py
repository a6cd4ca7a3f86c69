"""Watching networks: recordings, the snapshots' format, metrics and workload."""
