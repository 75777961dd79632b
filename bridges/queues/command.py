"""`heliograph queue`: what is in the queues of a running broker, and what is to become of it.

It talks to the broker's HTTP interface with the administrator's token, which it finds where the
settings say. Exit code 0: done; 1: not, and the message says what to do; 2: not understood.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridges.queues import command_text as text
from bridges.queues.backend import LONGEST_WAIT, MOST_AT_ONCE
from bridges.queues.command_api import TOKEN_VARIABLE, CommandError, find_api, queue_path
from bridges.queues.command_top import watch
from broker.queues.names import dead_letter_queue, is_queue_name, takes_dead_letters
from broker.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridges.queues.command_api import Api

SHORTEST_INTERVAL = 0.1


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; 1 with a message if that cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        api = find_api(options, os.environ)
        options.action(api, options)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except (CommandError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"heliograph queue: {text.plain(error)}", file=sys.stderr)
        return 1
    return 0


# ---- looking ----


def list_queues(api: Api, options: argparse.Namespace) -> None:
    """All queues."""
    found = api.ask("GET", "/queues")
    none = "There are no queues: a [[queue]] in the broker's settings makes one."
    lines = text.queue_table(found["queues"]) if found["queues"] else [none]
    _print(options, found, lines)


def stats(api: Api, options: argparse.Namespace) -> None:
    """All about one queue."""
    found = api.ask("GET", queue_path(options.queue))
    _print(options, found, text.queue_details(found))


def peek(api: Api, options: argparse.Namespace) -> None:
    """Some messages."""
    path = queue_path(options.queue, "messages")
    found = api.ask("GET", path, after=options.after, max=options.most)
    lines = text.message_table(found["messages"]) if found["messages"] else ["No messages."]
    _print(options, found, lines)


def top(api: Api, options: argparse.Namespace) -> None:
    """All queues, or some, again and again."""

    def ask() -> Sequence[Mapping[str, Any]]:
        found: list[dict[str, Any]] = api.ask("GET", "/queues")["queues"]
        unknown = set(options.queues) - {each["name"] for each in found}
        if unknown:
            raise CommandError(f"there is no queue {', '.join(sorted(unknown))}")
        return [each for each in found if not options.queues or each["name"] in options.queues]

    size = partial(shutil.get_terminal_size, (80, 24))
    try:
        watch(ask, options.count, options.interval, size)
    except KeyboardInterrupt:
        return  # how one leaves it


# ---- changing ----


def purge(api: Api, options: argparse.Namespace) -> None:
    """Delete what is not leased, if the person means it."""
    if not options.yes:
        _confirm(api, options.queue)
    found = api.at_work().ask("DELETE", queue_path(options.queue, "messages"))
    _print(options, found, [f"{found['deleted']:,} messages deleted."])


def redrive(api: Api, options: argparse.Namespace) -> None:
    """Send dead letters back."""
    body: dict[str, Any] = {}
    if options.id:
        body["ids"] = options.id
    if options.to:
        body["to"] = options.to
    body |= _payload(options)
    found = api.at_work().ask("POST", queue_path(options.queue, "redrive"), body)
    lines = [f"{found['moved']:,} messages moved."]
    if not found["moved"] and not takes_dead_letters(options.queue):
        lines.append(f"The dead letters of a queue are in {dead_letter_queue(options.queue)}.")
    _print(options, found, lines)


def drop(api: Api, options: argparse.Namespace) -> None:
    """Delete a queue and all that is in it, if the person means it."""
    if not options.yes:
        _confirm(api, options.queue)
    found = api.at_work().ask("DELETE", queue_path(options.queue))
    _print(options, found, [f"{options.queue} is deleted, with {found['deleted']:,} messages."])


def unbind(api: Api, options: argparse.Namespace) -> None:
    """Take a filter away that a client has bound."""
    path = queue_path(options.queue, "bindings")
    found = api.ask("DELETE", path, filter=options.filter)
    left = ", ".join(map(text.plain, found["bindings"])) or "nothing"
    told = f"{options.queue} is no longer bound to {text.plain(options.filter)}, but to {left}."
    _print(options, found, [told])


def set_mode(api: Api, options: argparse.Namespace) -> None:
    """pause, resume, drain."""
    found = api.ask("POST", queue_path(options.queue, options.verb))
    _print(options, found, [f"{options.queue} is {text.plain(found['mode'])}."])


def publish(api: Api, options: argparse.Namespace) -> None:
    """Put one message into a queue."""
    names = ("topic", "key", "priority", "delay", "ttl", "dedup_id", "content_type")
    given = {name: getattr(options, name) for name in names}
    body = {name: value for name, value in given.items() if value is not None} | _payload(options)
    found = api.ask("POST", queue_path(options.queue, "messages"), body)
    _print(options, found, [f"Stored as message {found['id']}."])


def receive(api: Api, options: argparse.Namespace) -> None:
    """Take messages out: print them, then acknowledge them."""
    query = {"max": options.most, "wait": options.wait}
    found = api.ask("POST", queue_path(options.queue, "receive"), **query)["messages"]
    for each in found:
        if options.json:
            print(json.dumps(each))
        else:
            sys.stdout.buffer.write(text.payload_of(each) + b"\n")
    sys.stdout.flush()
    if found:
        receipts = [each["receipt"] for each in found]
        _warn(api.ask("POST", queue_path(options.queue, "ack"), {"receipts": receipts})["results"])


ACTIONS: Mapping[str, tuple[Callable[[Api, argparse.Namespace], None], str]] = {
    "ls": (list_queues, "list the queues and what is in them"),
    "stats": (stats, "say all about one queue"),
    "peek": (peek, "look at messages without touching them"),
    "top": (top, "watch queues fill and drain"),
    "purge": (purge, "delete all messages that no consumer holds"),
    "redrive": (redrive, "send dead letters back to where they came from"),
    "drop": (drop, "delete a queue that clients have made, or that the settings no longer have"),
    "unbind": (unbind, "end a binding that a client has made"),
    "pause": (set_mode, "hand nothing out until it is resumed"),
    "drain": (set_mode, "take nothing in until it is resumed"),
    "resume": (set_mode, "end a pause or draining"),
    "publish": (publish, "put a message into a queue"),
    "receive": (receive, "take messages out and print them"),
}


def _print(options: argparse.Namespace, found: object, lines: Sequence[str]) -> None:
    print(json.dumps(found) if options.json else "\n".join(lines))


def _warn(results: Sequence[Mapping[str, str]]) -> None:
    bad = sum(each["result"] != "ok" for each in results)
    if bad:
        print(f"{bad} of them were not acknowledged in time: they come again.", file=sys.stderr)


def _confirm(api: Api, queue: str) -> None:
    found = api.ask("GET", queue_path(queue))
    count = found["messages"] - found["leased"]
    if not sys.stdin.isatty():
        raise CommandError(f"this would delete {count:,} messages of {queue}: say --yes")
    question = f"Delete {count:,} messages of {queue}? Type yes: "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise CommandError("nothing was deleted")


def _payload(options: argparse.Namespace) -> dict[str, str]:
    if options.file is not None:
        data = sys.stdin.buffer.read() if str(options.file) == "-" else options.file.read_bytes()
        return {"payload_base64": b64encode(data).decode()}
    return {} if options.message is None else {"payload": options.message}


# ---- the command line ----


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph queue",
        description="Look at the queues of a running broker, and look after them. The broker needs "
        '[http] with listen = "127.0.0.1:8180" or the like in its settings.',
    )
    actions = parser.add_subparsers(dest="verb", required=True, metavar="ACTION")
    for name, (action, summary) in ACTIONS.items():
        added = actions.add_parser(name, help=summary, description=summary)
        added.set_defaults(action=action)
        OPTIONS.get(name, _one_queue)(added)
        _add_common(added)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="the broker's settings")
    parser.add_argument("--data", metavar="DIR", help="the broker's folder, with its token")
    parser.add_argument("--url", metavar="URL", help="the broker's address, http://HOST:PORT")
    parser.add_argument(
        "--token", metavar="TOKEN", help=f"instead of the one in the folder; also {TOKEN_VARIABLE}"
    )
    if parser.prog.split()[-1] != "top":
        parser.add_argument("--json", action="store_true", help="for programs to read")


def _no_queue(parser: argparse.ArgumentParser) -> None:
    del parser


def _one_queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", metavar="QUEUE", type=_queue_name)


def _for_peek(parser: argparse.ArgumentParser) -> None:
    _one_queue(parser)
    parser.add_argument("--after", metavar="ID", type=int, help="only with a higher id")
    _add_most(parser, 10)


def _for_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queues", metavar="QUEUE", nargs="*", type=_queue_name)
    parser.add_argument("--count", metavar="N", type=_count, help="so many times; else for ever")
    parser.add_argument("--interval", metavar="S", type=_interval, default=1.0, help="seconds")


def _for_purge(parser: argparse.ArgumentParser) -> None:
    _one_queue(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _for_redrive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queue", metavar="QUEUE", type=_queue_name, help="with the dead letters: NAME.dlq"
    )
    parser.add_argument("--id", metavar="ID", type=int, action="append", help="only this one")
    parser.add_argument("--to", metavar="QUEUE", type=_queue_name, help="to another queue")
    _add_payload(parser, "a new payload, with one --id")


def _for_unbind(parser: argparse.ArgumentParser) -> None:
    _one_queue(parser)
    parser.add_argument("filter", metavar="FILTER", help="the topic filter, as `stats` shows it")


def _for_publish(parser: argparse.ArgumentParser) -> None:
    _one_queue(parser)
    for name in ("topic", "key", "dedup-id", "content-type"):
        parser.add_argument(f"--{name}", metavar="TEXT")
    parser.add_argument("--priority", metavar="N", type=int, help="0 to 9; 4 if left out")
    for name in ("delay", "ttl"):
        parser.add_argument(f"--{name}", metavar="S", type=float, help="seconds")
    _add_payload(parser, "the payload", needed=True)


def _for_receive(parser: argparse.ArgumentParser) -> None:
    _one_queue(parser)
    _add_most(parser, 1)
    parser.add_argument(
        "--wait", metavar="S", type=float, default=0.0, help=f"seconds, up to {LONGEST_WAIT:g}"
    )


def _add_payload(parser: argparse.ArgumentParser, what: str, needed: bool = False) -> None:
    group = parser.add_mutually_exclusive_group(required=needed)
    group.add_argument("-m", "--message", metavar="TEXT", help=what)
    group.add_argument("-f", "--file", metavar="FILE", type=Path, help=f"{what}; - for stdin")


def _add_most(parser: argparse.ArgumentParser, default: int) -> None:
    parser.add_argument(
        "-n",
        "--most",
        metavar="N",
        type=_count,
        default=default,
        help=f"messages, up to {MOST_AT_ONCE}",
    )


OPTIONS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "ls": _no_queue,
    "peek": _for_peek,
    "top": _for_top,
    "purge": _for_purge,
    "drop": _for_purge,
    "redrive": _for_redrive,
    "unbind": _for_unbind,
    "publish": _for_publish,
    "receive": _for_receive,
}


def _queue_name(given: str) -> str:
    if is_queue_name(given):
        return given
    raise argparse.ArgumentTypeError("letters, digits, _ . : and -, no dot in front")


def _count(given: str) -> int:
    if given.isascii() and given.isdigit() and 0 < int(given) < 10**9:
        return int(given)
    raise argparse.ArgumentTypeError("write a number from 1 on")


def _interval(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if SHORTEST_INTERVAL <= seconds <= 86_400:
        return seconds
    raise argparse.ArgumentTypeError(f"write seconds from {SHORTEST_INTERVAL} on")
