"""Threshold rules side by side, on one network and data set.

:mod:`~studies.comparison.recipes` says what each paper does,
:mod:`~studies.comparison.plan` which runs that makes,
:mod:`~studies.comparison.runner` trains them,
:mod:`~studies.comparison.results` reads them back and
:mod:`~studies.comparison.tables` writes table and figures.
"""
