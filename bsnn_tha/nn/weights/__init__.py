"""Layers whose weights are computed: binary ones, and of any quantizer."""
