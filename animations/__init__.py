"""Figures and films from recorded arrays: nothing here trains."""
