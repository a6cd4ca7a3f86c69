"""Many trainings as one: their plans, the processes that train them, and the tables they end as.

:mod:`~bsnn_tha.campaigns.comparison` sets threshold rules side by side,
:mod:`~bsnn_tha.campaigns.reproduction` makes the papers' tables; both read plans with
:mod:`~bsnn_tha.campaigns.plan_files`, train with :mod:`~bsnn_tha.campaigns.pool` and judge by
:mod:`~bsnn_tha.campaigns.merit`. :mod:`~bsnn_tha.campaigns.temporal_coding` is one experiment of a
paper, many seeds at a time. Searches on a storage are what ``studies`` is for.
"""
