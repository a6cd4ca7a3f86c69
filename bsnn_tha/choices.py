"""How every axis is opened: a name from its table, ``module:Class`` of one's own, or an object.

An :class:`Axis` is a table with a few words about it. Whoever adds a neuron, a surrogate, a
quantizer or the like writes its file and one line of the table; whoever has one outside this
package names it, ``my_rules:Rising`` or ``my_rules.py:Rising``, looked for in the working
folder too. Its arguments are those of its own signature: one that it lacks is refused with
the nearest that it has, one that it has is checked by itself.

A name of this second kind runs code. Which configurations may name it is decided where they
are read: :meth:`bsnn_tha.config.RunConfig.from_toml`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import operator
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import did_you_mean, quoted

T = TypeVar("T")


def names_code(name: str) -> bool:
    """Whether a choice is ``module:Class`` rather than a name from a table.

    Example:
        >>> names_code("my_rules:Rising"), names_code("annealed")
        (True, False)
    """
    return ":" in name


class Axis(dict[str, Any], Generic[T]):
    """Choices of one kind: a table of them by name.

    Args:
        what: one of them is called in errors, e.g. ``"threshold rule"``.
        table: the choices by name: each what makes one (a class or a function), where that is
            to be imported from when it is used (``module:attribute``), or what the name
            stands for if nothing is to be made (None).
        fits: whether something can be one of them, for those that are not in the table.
        wanted: what such a one must be, in words.
        makes: the class or runtime-checkable protocol that what is made has; where it is
            given, a function of one's own that returns something else is refused.
        own: how one of one's own is given, in errors.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Bump:
        ...     width: float = 1.0
        >>> shapes = Axis("shape", {"bump": Bump})
        >>> shapes.make("bump", {"width": 2.0})
        Bump(width=2.0)
        >>> shapes.make("bumb")
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: unknown shape 'bumb'; did you mean 'bump'? Yours is \
given as module:Class
        >>> shapes.make("bump", {"wdth": 2.0})
        Traceback (most recent call last):
        bsnn_tha.errors.InvalidValueError: shape 'bump' has no setting 'wdth'; did you mean \
'width'?
    """

    def __init__(
        self,
        what: str,
        table: Mapping[str, Any],
        fits: Callable[[Any], bool] = callable,
        wanted: str = "a class or a function",
        makes: type | None = None,
        own: str = "module:Class",
    ) -> None:
        super().__init__(table)
        self.what, self.fits, self.wanted, self.makes = what, fits, wanted, makes
        self.own = own

    def find(self, choice: str | T | Callable[..., T]) -> Any:
        """What a choice stands for: what makes one, or an object that was given as it is.

        Raises:
            InvalidValueError: no such name, or it names something else.
        """
        if not isinstance(choice, str):
            self._check(choice, choice)
            return choice
        if not names_code(choice):
            self.check_name(choice)
            found = self[choice]
            return load(found, self.what) if isinstance(found, str) else found
        found = load(choice, self.what)
        self._check(found, choice)
        return found

    def check_name(self, name: str) -> None:
        """Raise unless a name is in the table or of one's own; nothing is imported."""
        if name not in self and not names_code(name):
            near = did_you_mean(name, self)
            raise InvalidValueError(
                f"unknown {self.what} {name!r}{near}{'' if near.endswith('?') else '.'} "
                f"Yours is given as {self.own}"
            )

    def make(
        self,
        choice: str | Callable[..., T],
        settings: Mapping[str, Any] | None = None,
        given: Mapping[str, Any] | None = None,
        written: Mapping[str, str] | None = None,
    ) -> Any:
        """Make one.

        Args:
            choice: a name, or what makes one.
            settings: its arguments, as a configuration or a caller gives them.
            given: further ones that it gets if it takes them, e.g. a layer's sizes.
            written: what a setting is called where it was written, if not by its own name.

        Raises:
            InvalidValueError: a setting that it does not have or lacks, a value that
                breaks a rule, or one of one's own that makes something else.
        """
        settings, given = settings or {}, given or {}
        known = self.check(choice, settings, tuple(given), written)
        maker = self.find(choice)
        if maker is None:
            return None
        made = maker(**{key: given[key] for key in known if key in given}, **settings)
        if self.makes is not None and not isinstance(made, self.makes):
            raise InvalidValueError(
                f"{self.what} {_shown(choice)} must make a "
                f"{self.makes.__module__}.{self.makes.__name__}, but made {quoted(made)}"
            )
        return made

    def chosen(
        self,
        choice: str | T | Callable[..., T],
        settings: Mapping[str, Any] | None = None,
        written: Mapping[str, str] | None = None,
    ) -> Any:
        """As :meth:`make`; but an object that was made already is taken as it is.

        Raises:
            InvalidValueError: settings beside such an object, which has its own.
        """
        if isinstance(choice, str | type):
            return self.make(choice, settings, written=written)
        if settings:
            names = ", ".join((written or {}).get(key, key) for key in settings)
            raise InvalidValueError(
                f"{self.what} {_shown(choice)} has its own settings; leave out {names}"
            )
        return self.find(choice)

    def check(
        self,
        choice: str | Callable[..., T],
        settings: Mapping[str, Any],
        given: Collection[str] = (),
        written: Mapping[str, str] | None = None,
    ) -> Mapping[str, inspect.Parameter]:
        """Raise unless a choice has these settings, and all that it needs are among them.

        Args:
            choice, settings, written: as for :meth:`make`.
            given: names of what it gets besides.

        Returns:
            Its parameters.
        """
        maker, written = self.find(choice), written or {}
        known = {} if maker is None else parameters(maker)
        own = {written.get(key, key): key for key in known if key not in given}
        called = f"{self.what} {_shown(choice)}"
        for key in settings:
            if key not in own.values():
                name = written.get(key, key)
                raise InvalidValueError(
                    f"{called} has no setting {name!r}{did_you_mean(name, own)}"
                )
        for name, key in own.items():
            if known[key].default is inspect.Parameter.empty and key not in settings:
                raise InvalidValueError(f"{called} needs {name}; add it to its settings")
        return known

    def _check(self, found: Any, choice: Any) -> None:
        if not self.fits(found):
            raise InvalidValueError(
                f"{self.what} {_shown(choice)} must be {self.wanted}, but got {found!r}"
            )


def load(place: str, what: str = "object") -> Any:
    """What a name of the form ``module:attribute`` or ``file.py:attribute`` stands for.

    Modules are looked for in the working folder too, after all other places, as long as the
    import lasts: ``sys.path`` is afterwards what it was.

    Args:
        place: where it is; attributes of attributes with dots.
        what: it is, for errors.

    Raises:
        InvalidValueError: it cannot be imported, whatever the reason.

    Example:
        >>> load("math:pi")
        3.141592653589793
    """
    module, _, attribute = place.rpartition(":")
    try:
        with _working_folder_importable():
            found = _from_file(Path(module)) if module.endswith(".py") else _imported(module)
        return operator.attrgetter(attribute)(found)
    except Exception as error:  # code of anyone's may fail in any way
        kind = (
            "" if isinstance(error, ImportError | AttributeError) else type(error).__name__ + ": "
        )
        raise InvalidValueError(
            f"{what} {place!r} cannot be imported: {kind}{' '.join(str(error).split())}"
        ) from error


def parameters(maker: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a class or function.

    A class that hands ``**settings`` on has those of its base classes as well, which it may
    have filled in: none of them is needed.

    Example:
        >>> class Base:
        ...     def __init__(self, width=1): ...
        >>> class Derived(Base):
        ...     def __init__(self, height, **settings): ...
        >>> list(parameters(Derived))
        ['height', 'width']
    """
    found: dict[str, inspect.Parameter] = {}
    for function in _signatures(maker):
        handed_on = False
        for name, parameter in function.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                handed_on = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                found.setdefault(name, parameter)
        if not handed_on:
            break
    return found


def _signatures(maker: Any) -> Iterator[inspect.Signature]:
    """Of what is called first, and of the base classes' constructors, nearest first."""
    yield inspect.signature(maker)
    constructors = [c for c in getattr(maker, "__mro__", ()) if "__init__" in vars(c)]
    for base in constructors[1:]:
        _self, *others = inspect.signature(base.__init__).parameters.values()
        yield inspect.Signature(
            [p.replace(default=None) if p.kind in _NAMED else p for p in others],
            __validate_parameters__=False,
        )


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _shown(choice: Any) -> str:
    if isinstance(choice, str):
        return repr(choice)
    return getattr(choice, "__name__", None) or repr(choice)


def _imported(module: str) -> Any:
    importlib.invalidate_caches()  # the file may just have been written
    return importlib.import_module(module)


def _from_file(path: Path) -> Any:
    path = path.resolve()
    name = f"_bsnn_tha_file_{path.stem}_{abs(hash(path))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)  # last: no file there hides another module
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
