"""The judge of queues: each fault is found, and what is lawful is not called one."""

import pytest

from tests.crash.ledger import Ledger, Message
from tests.crash.queue_ledger import BY_KEY, FREE, SINGLE, QueueLedger

ORDERS = {"free": FREE, "keyed": BY_KEY, "single": SINGLE}


class Books:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.queues = QueueLedger(self.ledger, ORDERS)

    def send(
        self, *queues: str, key: str = "k", qos: int = 1, acknowledged: bool = True
    ) -> Message:
        message = self.ledger.new_message("p", f"q/p/{key}/all", qos, 40)
        if acknowledged:
            self.ledger.acknowledge(message)
        return self.queues.expect(message, queues)

    def give(self, message: Message, queue: str, number: int, only_for: str = "") -> None:
        self.queues.arrive(queue, number, message.topic, message.payload, only_for=only_for)

    @property
    def faults(self) -> dict[str, int]:
        self.queues.judge()
        return {name: count for name, count in self.ledger.faults.items() if count}


@pytest.fixture
def books() -> Books:
    return Books()


def test_a_message_that_came_out_of_all_its_queues_is_no_fault(books: Books) -> None:
    message = books.send("free", "keyed")
    books.give(message, "free", 1)
    books.give(message, "keyed", 2)
    books.queues.confirm("free", 1)
    assert books.faults == {}


def test_an_acknowledged_message_that_one_queue_does_not_have_is_lost(books: Books) -> None:
    books.give(books.send("free", "keyed"), "free", 1)
    assert books.faults == {"lost": 1}
    assert books.ledger.lost_by == {"keyed": 1}
    assert books.faults == {"lost": 1}


def test_what_was_not_acknowledged_may_be_there_or_not(books: Books) -> None:
    books.send("free", acknowledged=False)
    books.give(books.send("free", acknowledged=False), "free", 1)
    assert books.faults == {}


def test_what_nobody_confirmed_may_come_again(books: Books) -> None:
    message = books.send("free")
    books.give(message, "free", 1)
    books.give(message, "free", 1)
    assert books.faults == {}


def test_what_was_confirmed_never_comes_again(books: Books) -> None:
    message = books.send("free")
    books.give(message, "free", 1)
    books.queues.confirm("free", 1)
    books.give(message, "free", 1)
    assert books.faults == {"came_back": 1}


def test_what_a_qos_2_session_has_is_given_to_nobody_else(books: Books) -> None:
    message = books.send("free")
    books.give(message, "free", 1, only_for="exact")
    books.give(message, "free", 1)
    assert books.faults == {"came_back": 1}


def test_a_message_published_with_qos_2_is_in_a_queue_once(books: Books) -> None:
    once, twice = books.send("free", qos=1), books.send("free", qos=2)
    for number, message in enumerate((once, once, twice, twice), 1):
        books.give(message, "free", number)
    assert books.faults == {"duplicates": 1}


def test_first_arrivals_of_a_key_keep_their_order(books: Books) -> None:
    first, other, second = books.send("keyed"), books.send("keyed", key="o"), books.send("keyed")
    for number, message in enumerate((second, other, first), 1):
        books.give(message, "keyed", number)
    assert books.faults == {"out_of_order": 1}


def test_a_repetition_is_not_out_of_order(books: Books) -> None:
    first, second = books.send("keyed"), books.send("keyed")
    for number, message in ((1, first), (2, second), (1, first)):
        books.give(message, "keyed", number)
    assert books.faults == {}


def test_a_single_consumer_gets_all_keys_in_order(books: Books) -> None:
    first, second = books.send("single", "free"), books.send("single", "free", key="o")
    for queue in ("single", "free"):
        books.give(second, queue, 2)
        books.give(first, queue, 1)
    assert books.faults == {"out_of_order": 1}


def test_a_number_means_one_message(books: Books) -> None:
    books.give(books.send("free"), "free", 1)
    books.give(books.send("free"), "free", 1)
    assert books.faults == {"renumbered": 1}


def test_what_is_not_as_it_was_sent_is_damaged(books: Books) -> None:
    message = books.send("free", acknowledged=False)
    books.queues.arrive("free", 1, message.topic, message.payload + b"!")
    books.queues.arrive("free", 1, "another", message.payload)
    assert books.faults == {"damaged": 2}


def test_what_was_not_for_a_queue_is_stray(books: Books) -> None:
    books.give(books.send("free", acknowledged=False), "keyed", 1)
    books.queues.arrive("free", 2, "t", b"nobody 1 1 t ")
    assert books.faults == {"stray": 2}
