"""Where the firmware of fleets is built, and what is said when it cannot be."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firmware_sim.firmware.identity import Identity
from firmware_sim.firmware.workshop import Workshop, WorkshopError

if TYPE_CHECKING:
    from collections.abc import Iterable

IDENTITY = Identity("one", "t/one", 1.0)


def only(folder: Path, commands: Iterable[str]) -> str:
    """A PATH with these commands alone."""
    for name in commands:
        found = next(
            path for each in os.environ["PATH"].split(":") if (path := Path(each, name)).exists()
        )
        (folder / name).symlink_to(found)
    return str(folder)


def test_an_image_is_built_once_and_all_of_it_goes_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Workshop() as workshop:
        workshop.compiled(IDENTITY)
        (folder,) = tmp_path.iterdir()
        made = (folder / "sensor.so").stat().st_mtime_ns
        workshop.compiled(Identity("two", "t/two", 1.0))
        assert (folder / "sensor.so").stat().st_mtime_ns == made
        assert {path.name for path in folder.iterdir()} >= {"one-sensor.so", "two-sensor.so"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "missing", "package"),
    [
        ("", "gcc is missing", "make gcc libc6-dev"),
        ("atmega328p", "avr-gcc is missing", "make gcc-avr avr-libc"),
        ("lm3s6965", "arm-none-eabi-gcc is missing", "make gcc-arm-none-eabi"),
        ("arduino-uno", "gcc is missing", "make gcc libc6-dev libsimavr-dev"),
    ],
)
def test_a_missing_compiler_names_its_package(
    part: str, missing: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", only(tmp_path, ("make", "sh", "mkdir")))
    with Workshop() as workshop:
        asked = partial(workshop.emulated, name=part) if part else workshop.compiled
        with pytest.raises(WorkshopError) as caught:
            asked(IDENTITY)
    assert missing in str(caught.value)
    assert f"apt-get install --no-install-recommends {package}" in str(caught.value)


def test_what_a_make_around_us_has_set_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "--no-such-option")
    with Workshop() as workshop:
        workshop.compiled(IDENTITY)
