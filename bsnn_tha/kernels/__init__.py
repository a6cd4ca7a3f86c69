"""The same equations, fast: one folder per backend, tested against :mod:`bsnn_tha.equations`."""
