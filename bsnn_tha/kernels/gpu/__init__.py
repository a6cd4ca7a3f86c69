"""Kernels compiled by Triton for a GPU."""
