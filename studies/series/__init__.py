"""Series of studies: several searches as one plan, as a paper's appendix has them.

:mod:`~studies.series.plan` says which studies a series is of, :mod:`~studies.series.work` puts
workers to them, which may come and go on any number of computers, and
:mod:`~studies.series.pages` writes what they found beside what the paper prints.
"""
