"""Campaigns: tables of results as plans, which any machine can go on with.

:mod:`~studies.reproduction.plan` says which runs a table is made of and what was printed
beside them, :mod:`~studies.reproduction.record` keeps what finished runs gave,
:mod:`~studies.reproduction.campaign` trains those that are missing, and
:mod:`~studies.reproduction.pages` writes the table.
"""
