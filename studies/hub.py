"""Samplers and pruners of OptunaHub, pinned: ``hub:PACKAGE@REF:NAME``.

``--sampler hub:samplers/auto_sampler@5f3c…:AutoSampler`` is the class ``AutoSampler`` of the
registry's package ``samplers/auto_sampler`` as it was at a commit or tag. It is code of others:
a branch could be something else tomorrow, in the middle of a study, so one has to be named.

Packages are fetched from GitHub by optunahub, once, into its cache. Where GitHub is not reached,
:data:`REGISTRY` names a folder that has the registry's packages, a checkout of
``optuna/optunahub-registry`` at that commit; they are then taken from there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from studies.errors import StudyError

REGISTRY = "BSNN_THA_OPTUNAHUB"
"""Environment variable: a folder with the registry's packages, ``FOLDER/samplers/...``."""
_PREFIX = "hub:"
_FORM = re.compile(r"hub:(?P<package>[\w/.-]+)@(?P<ref>[\w.-]+):(?P<name>\w+)")
_BRANCHES = ("main", "master", "HEAD")


def named(choice: str) -> bool:
    """Whether a choice is one of OptunaHub's.

    Example:
        >>> named("hub:samplers/auto_sampler@v1:AutoSampler"), named("my_samplers:Mine")
        (True, False)
    """
    return choice.startswith(_PREFIX)


def check(choice: str) -> tuple[str, str, str]:
    """Package, version and name of a choice; nothing is fetched.

    Raises:
        StudyError: it is not of the form ``hub:PACKAGE@REF:NAME``, or its version is a branch.

    Example:
        >>> check("hub:samplers/auto_sampler@v1:AutoSampler")
        ('samplers/auto_sampler', 'v1', 'AutoSampler')
    """
    match = _FORM.fullmatch(choice)
    if match is None or match["ref"] in _BRANCHES or ".." in match["package"]:
        raise StudyError(
            "one of OptunaHub's must be hub:PACKAGE@REF:NAME with a commit or tag as REF, as in "
            f"hub:samplers/auto_sampler@COMMIT:AutoSampler, but got {choice!r}"
        )
    return match["package"], match["ref"], match["name"]


def load(choice: str) -> Any:
    """The class or function that a choice names.

    Raises:
        StudyError: optunahub is not installed, the package cannot be had, or has no such name.
    """
    package, ref, name = check(choice)
    try:
        import optunahub
    except ImportError:
        raise StudyError(f"{choice!r} needs optunahub; pip install 'bsnn-tha[hub]'") from None
    folder = os.environ.get(REGISTRY)
    try:
        if folder:
            module = optunahub.load_local_module(package, registry_root=str(Path(folder).resolve()))
        else:
            module = optunahub.load_module(package, ref=ref)
    except Exception as error:  # git, GitHub, the package's own imports: anything
        said = " ".join(str(error).split())[:200]
        way = (
            f"look at {REGISTRY}={folder}"
            if folder
            else f"without a way to GitHub, set {REGISTRY} to the folder package of a checkout of "
            f"optuna/optunahub-registry at {ref}"
        )
        raise StudyError(
            f"{package} of OptunaHub cannot be had ({type(error).__name__}: {said}); {way}"
        ) from error
    if not hasattr(module, name):
        known = ", ".join(getattr(module, "__all__", ())) or "none that it lists"
        raise StudyError(f"{package} of OptunaHub has no {name!r}; it has {known}")
    return getattr(module, name)
