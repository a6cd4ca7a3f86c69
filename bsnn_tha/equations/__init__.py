"""The truth: the papers' equations as pure functions on tensors, to be read beside them.

Nothing here imports a compiler, or anything above: see ``docs/architecture.md``.
"""
