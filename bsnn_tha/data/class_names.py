"""What the classes of the data sets are called, where that is known."""

from __future__ import annotations

_DIGITS = tuple("0123456789")
_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "digits": _DIGITS,
    "mnist": _DIGITS,
    "nmnist": _DIGITS,
    "saccade-digits": _DIGITS,
    "fashion-mnist": (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10": _CIFAR10,
    "dvs-cifar10": _CIFAR10,
    "n-cars": ("background", "car"),
    "shd": (
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    ),
    "dvs-gesture": (
        *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise"),
        *("right arm counter-clockwise", "left arm clockwise", "left arm counter-clockwise"),
        *("arm roll", "air drums", "air guitar", "other gestures"),
    ),
}
"""By name of the data set, in the order of class indices."""
