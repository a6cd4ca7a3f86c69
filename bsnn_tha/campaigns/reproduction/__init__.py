"""Campaigns: tables of results as plans, which any machine can go on with.

:mod:`~bsnn_tha.campaigns.reproduction.plan` says which runs a table is made of and what was printed
beside them, :mod:`~bsnn_tha.campaigns.reproduction.record` keeps what finished runs gave,
:mod:`~bsnn_tha.campaigns.reproduction.campaign` trains those that are missing, and
:mod:`~bsnn_tha.campaigns.reproduction.pages` writes the table.
"""
