"""The rooms of the contracts are those of docs/architecture.md, and none is too big."""

from __future__ import annotations

import configparser
import re

from places import ROOT

LARGEST = 0.15


def _rooms() -> list[str]:
    """Folders of the layers' contract, top first."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    layers = parser["importlinter:contract:rooms"]["layers"]
    names = [name.strip() for line in layers.split() for name in line.split(":") if name.strip()]
    return [name.replace(".", "/") for name in names if (ROOT / name.replace(".", "/")).is_dir()]


def _lines(folder: str) -> int:
    files = (ROOT / folder).rglob("*.py")
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def test_every_room_is_in_the_picture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## The rooms")[2].partition("\n## ")[0]
    heads = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    shown = {
        name.removeprefix("bsnn_tha/") for head in heads for name in re.findall("`(.*?)`", head)
    }
    rooms = {room.removeprefix("bsnn_tha/") for room in _rooms()}
    assert len(rooms) > 12
    assert rooms - shown == set()


def test_every_folder_is_a_room():
    folders = {p.parent.name for p in (ROOT / "bsnn_tha").glob("*/__init__.py")}
    inside = {room.removeprefix("bsnn_tha/") for room in _rooms()}
    assert folders - inside == {"notebooks"}  # which hold no code that anything imports


def test_no_room_has_more_than_its_share_of_the_lines():
    total = sum(map(_lines, ("bsnn_tha", "studies", "animations")))
    shares = {room: _lines(room) / total for room in _rooms()}
    assert {room: f"{share:.1%}" for room, share in shares.items() if share > LARGEST} == {}
