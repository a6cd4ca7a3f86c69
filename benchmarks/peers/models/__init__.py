"""The same network in every library; one module each, imported by its worker alone."""
