"""Modules: thin stateful shells over :mod:`bsnn_tha.functional`."""
