"""`heliograph passwd FILE USER`: the password file, one line `user:$argon2id$...` for each user.

Rule kept here: the file is replaced as a whole and readable by its owner only, so a broker that
reads it at this moment sees the old users or the new ones. Lines it does not understand, comments
among them, stay as they are.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from getpass import getpass
from pathlib import Path

LONGEST_USER_NAME = 65_535  # bytes: what an MQTT string can hold


class PasswdError(Exception):
    """Something the person at the terminal can put right."""


def main(arguments: Sequence[str]) -> int:
    """Change the file as the arguments say; 1 with a message if that cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        change(options)
    except (PasswdError, OSError, UnicodeDecodeError) as error:
        print(f"heliograph passwd: {error}", file=sys.stderr)
        return 1
    return 0


def change(options: argparse.Namespace) -> None:
    """Add, change or delete one user."""
    check_user_name(options.user)
    lines = read_lines(options.file)
    others = [line for line in lines if line.partition(":")[0] != options.user]
    if options.delete:
        if len(others) == len(lines):
            raise PasswdError(f'{options.file} has no user "{options.user}"')
        write_lines(options.file, others)
        return
    hashed = hash_password(read_password(options))
    write_lines(options.file, [*others, f"{options.user}:{hashed}"])


def check_user_name(user: str) -> None:
    """Raise PasswdError unless a line of the file can begin with this name."""
    if not user or not user.isprintable() or len(user.encode()) > LONGEST_USER_NAME:
        raise PasswdError("a user name has 1 to 65535 bytes of printable characters")
    if ":" in user or user.startswith("#") or user != user.strip():
        raise PasswdError(
            f'"{user}" cannot be a user name: leave out ":", a "#" in front and spaces at the ends'
        )


def read_password(options: argparse.Namespace) -> str:
    """The new password: from the command line, standard input, or typed twice."""
    password: str
    if options.password is not None:
        password = options.password
    elif options.stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass(f"New password for {options.user}: ")
        if getpass("The same once more: ") != password:
            raise PasswdError("the two passwords differ; nothing was changed")
    if not password:
        raise PasswdError("the password is empty; nothing was changed")
    return password


def hash_password(password: str) -> str:
    """The password as argon2id, with salt and parameters in the text."""
    from argon2 import PasswordHasher

    from broker.auth.passwords import ARGON2ID

    return PasswordHasher(**ARGON2ID).hash(password)


def read_lines(path: Path) -> list[str]:
    """The file's lines; none if it does not exist yet."""
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8").splitlines()
    return []


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Replace the file in one step, readable by its owner only."""
    target = path.resolve()  # what a symbolic link points at is replaced, not the link
    # a file of mkstemp's is its owner's alone
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            _keep_owner(file.fileno(), target)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _keep_owner(handle: int, target: Path) -> None:
    """Leave the file with its owner: root may change it, the broker must still read it."""
    with suppress(FileNotFoundError, PermissionError):
        status = target.stat()
        os.fchown(handle, status.st_uid, status.st_gid)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph passwd",
        description="Add or change a user in a password file; the file is made if it is not there. "
        "The broker reads it when its settings say so: [auth] password_file.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("user", metavar="USER")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "-b",
        "--password",
        metavar="PASSWORD",
        help="take the password from here (others may see it in the list of processes)",
    )
    way.add_argument("--stdin", action="store_true", help="read it from standard input")
    way.add_argument("-D", "--delete", action="store_true", help="delete the user")
    return parser
