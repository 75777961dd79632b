"""A queue's policy as data, its pauses, and the names of queues."""

from __future__ import annotations

from random import Random

import pytest

from broker.queues.names import dead_letter_queue, is_queue_name, takes_dead_letters
from broker.queues.policy import QueuePolicy


def test_a_policy_survives_json_and_unknown_keys_do_not_hurt():
    policy = QueuePolicy(lease=5.0, order="key", max_rate=2.5)
    assert QueuePolicy.from_json(policy.to_json()) == policy
    assert QueuePolicy.from_json('{"lease": 5, "of_tomorrow": true}') == QueuePolicy(lease=5)


def test_pauses_double_up_to_a_bound():
    policy = QueuePolicy(retry_first=1.0, retry_longest=10.0, retry_jitter=0.0)
    pauses = [policy.retry_delay(failures, Random(1)) for failures in (1, 2, 3, 4, 5, 10**6)]
    assert pauses == [1, 2, 4, 8, 10, 10]


def test_chance_spreads_pauses_within_its_share():
    policy = QueuePolicy(retry_first=10.0, retry_jitter=0.2)
    rng = Random(1)
    pauses = [policy.retry_delay(1, rng) for _ in range(200)]
    assert 8 <= min(pauses) < 8.5
    assert 11.5 < max(pauses) <= 12


def test_dead_letters_are_kept_longer_and_never_die_again():
    policy = QueuePolicy.for_dead_letters(QueuePolicy(max_messages=7))
    assert (policy.retention, policy.max_failures, policy.dead_letters) == (30 * 86_400, 0, False)
    assert policy.max_messages == 7


@pytest.mark.parametrize("name", ["a", "A-1_b.c:d", "x" * 128, "work.dlq"])
def test_good_names(name):
    assert is_queue_name(name)


@pytest.mark.parametrize("name", ["", ".a", "a b", "a/b", "a+", "#", "x" * 129, "ä", "a\n", "$a"])
def test_names_that_are_none(name):
    assert not is_queue_name(name)


def test_a_queue_of_dead_letters_is_known_by_its_name():
    assert takes_dead_letters(dead_letter_queue("work"))
    assert not takes_dead_letters("work")
