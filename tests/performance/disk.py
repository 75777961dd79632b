"""Which disk the brokers' data lies on: a figure of durability is one of that disk."""

from pathlib import Path
from typing import NamedTuple

IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Mount(NamedTuple):
    device: str
    point: Path
    filesystem: str

    @property
    def is_memory(self) -> bool:
        return self.filesystem in IN_MEMORY

    def __str__(self) -> str:
        return f"{self.filesystem} on {self.device}"


def mount_of(folder: Path, mounts: str) -> Mount:
    """`mounts` is the text of /proc/mounts; of two on one place the later hides the earlier."""
    lines = (line.split() for line in mounts.splitlines())
    known = [Mount(fields[0], Path(fields[1]), fields[2]) for fields in lines]
    above = [mount for mount in known if folder.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point.parts))


def data_disk(folder: Path) -> Mount:
    return mount_of(folder, Path("/proc/mounts").read_text())
