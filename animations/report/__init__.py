"""A run on one page that needs no other file: :func:`animations.report.page.write_report`."""
