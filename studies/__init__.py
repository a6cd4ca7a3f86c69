"""Searches and reports that stand on :mod:`bsnn_tha`."""
