"""Reading a damaged SQLite file page by page, without SQLite: rows that no tree leads to any more.

The format is https://www.sqlite.org/fileformat2.html, chapters 1.5 to 1.6 and 2.1. Rule kept here:
nothing read is believed. Every offset is checked, a cell that makes no sense is left out, and
whether a row is one of ours is for the caller to judge. The file must hold all there is: no log
beside it.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from broker.storage.rows import Text

PAGE_SIZE = 4096  # SQLite's default; we never set another
FILE_HEADER = 100  # bytes in front of the first page's own header
FREELIST = 32  # where the file header has its first page and its count
LEAF_OF_INDEX, LEAF_OF_TABLE, INSIDE_OF_INDEX = 0x0A, 0x0D, 0x02
CELLS_BEGIN = {LEAF_OF_INDEX: 8, LEAF_OF_TABLE: 8, INSIDE_OF_INDEX: 12}  # size of the page's header
MOST_COLUMNS = 24
LONGEST_RECORD = 2**31
# serial type -> the struct of a number of that size; 3 and 5 have none
NUMBERS = {1: ">b", 2: ">h", 4: ">i", 6: ">q", 7: ">d"}
WIDTHS = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}


class Cell(NamedTuple):
    """One row as it is stored; an index, and a table without row ids, has no row id."""

    rowid: int | None
    values: tuple[Any, ...]


class Pages:
    """The pages of one file; its free pages are left out if the list of them makes sense."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._count = path.stat().st_size // PAGE_SIZE
        self._free: frozenset[int] = frozenset()
        if self._count:
            self._free = self._free_pages()

    def close(self) -> None:
        self._file.close()

    def cells(self) -> Iterator[Cell]:
        """Every cell of every page that is not known to be free."""
        for number in range(1, self._count + 1):
            if number not in self._free:
                yield from self._cells_of(number)

    def _cells_of(self, number: int) -> Iterator[Cell]:
        page = self._page(number)
        start = FILE_HEADER if number == 1 else 0
        kind = page[start]
        if kind not in CELLS_BEGIN:
            return
        (count,) = struct.unpack_from(">H", page, start + 3)
        first = start + CELLS_BEGIN[kind]
        count = min(count, (PAGE_SIZE - first) // 2)
        for offset in struct.unpack_from(f">{count}H", page, first):
            cell = self._cell(page, kind, offset)
            if cell is not None:
                yield cell

    def _cell(self, page: bytes, kind: int, offset: int) -> Cell | None:
        try:
            at = offset + 4 if kind == INSIDE_OF_INDEX else offset
            size, at = varint(page, at)
            rowid = None
            if kind == LEAF_OF_TABLE:
                rowid, at = varint(page, at)
            return Cell(rowid, record(self._payload(page, kind, size, at)))
        except (IndexError, ValueError, struct.error):
            return None

    def _payload(self, page: bytes, kind: int, size: int, at: int) -> bytes:
        """The record: in the page, or its beginning there and the rest in a chain of pages."""
        most = PAGE_SIZE - 35 if kind == LEAF_OF_TABLE else (PAGE_SIZE - 12) * 64 // 255 - 23
        if not 0 < size < min(LONGEST_RECORD, self._count * PAGE_SIZE):
            raise ValueError(size)
        if size <= most:
            return whole(page[at : at + size], size)
        least = (PAGE_SIZE - 12) * 32 // 255 - 23
        here = least + (size - least) % (PAGE_SIZE - 4)
        here = here if here <= most else least
        (following,) = struct.unpack_from(">I", page, at + here)
        return whole(page[at : at + here] + self._chain(following, size - here), size)

    def _chain(self, number: int, size: int) -> bytes:
        parts: list[bytes] = []
        for _ in range(-(-size // (PAGE_SIZE - 4))):
            if not 1 < number <= self._count:
                raise ValueError(number)
            page = self._page(number)
            parts.append(page[4:])
            (number,) = struct.unpack_from(">I", page)
        return b"".join(parts)[:size]

    def _free_pages(self) -> frozenset[int]:
        """The pages of the free list; none if the list is not what its count says."""
        trunk, total = struct.unpack_from(">II", self._page(1), FREELIST)
        free: set[int] = set()
        while 1 < trunk <= self._count and trunk not in free:
            page = self._page(trunk)
            free.add(trunk)
            trunk, count = struct.unpack_from(">II", page)
            free.update(struct.unpack_from(f">{min(count, PAGE_SIZE // 4 - 2)}I", page, 8))
        return frozenset(free) if len(free) == total else frozenset()

    def _page(self, number: int) -> bytes:
        self._file.seek((number - 1) * PAGE_SIZE)
        return self._file.read(PAGE_SIZE)


def record(data: bytes) -> tuple[Any, ...]:
    """The values of a record; ValueError, IndexError or struct.error if it is none."""
    end, at = varint(data, 0)
    if end > len(data):
        raise ValueError(end)
    types: list[int] = []
    while at < end and len(types) < MOST_COLUMNS:
        kind, at = varint(data, at)
        types.append(kind)
    values = tuple(islice(_values(data, end, types), MOST_COLUMNS))
    if at != end:
        raise ValueError(at)
    return values


def _values(data: bytes, at: int, types: list[int]) -> Iterator[Any]:
    for kind in types:
        width = WIDTHS[kind] if kind in WIDTHS else _length(kind)
        yield value(kind, whole(data[at : at + width], width))
        at += width


def _length(kind: int) -> int:
    if kind < 12:  # 10 and 11 are not used in files
        raise ValueError(kind)
    return (kind - 12) // 2


def value(kind: int, data: bytes) -> Any:
    """One value by its serial type."""
    if kind >= 12:
        return Text(data) if kind % 2 else data
    if kind in NUMBERS:
        return struct.unpack(NUMBERS[kind], data)[0]
    if kind in (3, 5):
        return int.from_bytes(data, "big", signed=True)
    return None if kind == 0 else kind - 8  # 8 and 9 are the numbers 0 and 1


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    number = 0
    for place in range(at, at + 8):
        number = number << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return number, place + 1
    number = number << 8 | data[at + 8]
    return number - 2**64 if number >= 2**63 else number, at + 9


def whole(data: bytes, size: int) -> bytes:
    """The data; ValueError if some of it is missing."""
    if len(data) != size:
        raise ValueError(size)
    return data
