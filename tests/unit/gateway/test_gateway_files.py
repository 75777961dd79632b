"""The folder for files of devices: bounded, and what is half there goes on."""

from hashlib import sha256
from pathlib import Path

from bridges.gateway.files import Content, Folder
from bridges.serial.files import FileReceiver, FileSender, Outcome

DATA = bytes(range(256)) * 10


def send(folder: Folder, name: str, data: bytes, stop_after: int = 1000) -> Outcome:
    """Send a file, or a part of it."""
    sender = FileSender(1, name, len(data), sha256(data).digest(), Content(data))
    receiver = FileReceiver(folder, 10_000)
    for _ in range(stop_after):
        payload = sender.payload(100)
        if payload is None:
            break
        told = receiver.receive(payload)
        if told is not None:
            sender.receive(told)
    folder.close()
    return sender.outcome


def test_a_file_that_is_whole_has_its_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "files", 10_000)
    assert send(folder, "log.csv", DATA) is Outcome.DONE
    assert [each.name for each in (tmp_path / "files").iterdir()] == ["log.csv"]
    assert (tmp_path / "files" / "log.csv").read_bytes() == DATA


def test_a_file_that_was_cut_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert send(Folder(tmp_path, 10_000), "a", DATA, stop_after=10) is Outcome.UNDERWAY
    (part,) = tmp_path.iterdir()
    before = part.stat().st_size
    assert 0 < before < len(DATA)
    receiver = FileReceiver(again := Folder(tmp_path, 10_000), 10_000)
    sender = FileSender(2, "a", len(DATA), sha256(DATA).digest(), Content(DATA))
    sender.receive(receiver.receive(sender.payload(100) or b"") or b"")
    assert sender.offset == before
    again.close()
    assert send(Folder(tmp_path, 10_000), "a", DATA) is Outcome.DONE


def test_a_folder_that_would_be_too_full_refuses(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 3000)
    assert send(folder, "a", DATA) is Outcome.DONE
    assert send(folder, "b", DATA) is Outcome.REFUSED


def test_a_folder_that_cannot_be_made_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert send(Folder(tmp_path / "file" / "folder", 10_000), "a", DATA) is Outcome.REFUSED
