"""What ``bsnn-tha animate run`` shows of a run: films by name, or of one's own.

A view is a function of a :class:`~bsnn_tha.observe.recording.Recording` that returns a
:class:`~animations.film.Film`. What else it takes of ``frames``, ``pace``, ``layers``,
``neurons``, ``sample``, ``iteration`` and ``style`` are its options on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bsnn_tha.choices import Axis, parameters
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import quoted

if TYPE_CHECKING:
    from animations.film import Film
    from bsnn_tha.observe.recording import Recording

VIEWS: Axis[Any] = Axis(
    "view",
    {
        "training": "animations.runs:training_film",
        "response": "animations.runs:window_film",
        "surrogate": "animations.runs:surrogate_film",
        "detection": "animations.detection:detection_film",
    },
    wanted="a function of a recording",
    own="module:function",
)


def check_view(view: str, asked: Mapping[str, str]) -> None:
    """Raise unless a view has a use for what was asked of it.

    Args:
        view: of :data:`VIEWS`, or ``module:function``.
        asked: settings that were given, and what they are called there.

    Raises:
        InvalidValueError: no such view, or one that has no use for a setting.
    """
    known = parameters(VIEWS.find(view))
    if wrong := [written for setting, written in asked.items() if setting not in known]:
        raise InvalidValueError(f"--view {view} has no use for {', '.join(wrong)}; leave it out")


def draw(view: str, recording: Recording, **settings: Any) -> Film:
    """The film of a view, with those settings that it takes; None counts as left out.

    Raises:
        InvalidValueError: one of one's own made something else.
    """
    from animations.film import Film

    given = {key: value for key, value in settings.items() if value is not None}
    film = VIEWS.make(view, given={"recording": recording, **given})
    if not isinstance(film, Film):
        raise InvalidValueError(
            f"view {view!r} must return an animations.film.Film, but returned {quoted(film)}"
        )
    return film
