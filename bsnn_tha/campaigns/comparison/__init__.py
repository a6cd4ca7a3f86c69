"""Threshold rules side by side, on one network and data set.

:mod:`~bsnn_tha.campaigns.comparison.recipes` says what each paper does,
:mod:`~bsnn_tha.campaigns.comparison.plan` which runs that makes,
:mod:`~bsnn_tha.campaigns.comparison.runner` trains them,
:mod:`~bsnn_tha.campaigns.comparison.results` reads them back and
:mod:`~bsnn_tha.campaigns.comparison.tables` writes table and figures.
"""
