"""What the machine asks for one write of 4 KiB that must survive a power cut.

It is the least a broker can pay before it acknowledges a message it has stored. The file has its
size beforehand, as a database's journal has that is used again: a file that grows costs more.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.performance.measure import Latencies

BLOCK = bytes(4096)
BLOCKS = 256  # of the file; the writes go around in it


def time_syncs(folder: Path, count: int, latencies: Latencies) -> None:
    """Each write and fdatasync by itself, one after the other."""
    with _file_of_full_size(folder / "one-sync") as descriptor:
        for number in range(count):
            begun = time.perf_counter()
            os.pwrite(descriptor, BLOCK, number % BLOCKS * len(BLOCK))
            os.fdatasync(descriptor)
            latencies.note((time.perf_counter() - begun, 1))


@contextlib.contextmanager
def _file_of_full_size(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.write(descriptor, BLOCK * BLOCKS)
        os.fsync(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)
        path.unlink()
