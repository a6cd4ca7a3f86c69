"""Figures of a study, drawn from its trials: :class:`studies.figures.drawn.Figures`."""
