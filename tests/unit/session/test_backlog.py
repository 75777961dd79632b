"""The backlog counts what it holds, whatever is put in, taken out or dropped."""

from hypothesis import given
from hypothesis import strategies as st

from broker.packets.publication import Publication
from broker.session.backlog import OVERHEAD, Backlog

outgoings = st.builds(
    lambda size, qos, expires_at: (
        Publication("t", bytes(size), qos, expires_at=expires_at),
        None,
        0x30 | qos << 1,
    ),
    st.integers(0, 50),
    st.integers(0, 2),
    st.none() | st.integers(0, 20),
)


@given(
    st.lists(outgoings | st.sampled_from(("pop", "forget_qos_0")) | st.integers(0, 20), max_size=30)
)
def test_a_backlog_is_a_list_that_knows_its_size(script: list[object]) -> None:
    backlog, model = Backlog(), []
    searched_at = -10
    for each in script:
        if each == "pop":
            if model:
                assert backlog.pop() is model.pop(0)
        elif each == "forget_qos_0":
            kept = [one for one in model if one[2] > 0x31]
            assert backlog.forget_qos_0() == len(model) - len(kept)
            model = kept
        elif isinstance(each, int):
            searched_at = max(searched_at + 2, each)  # time goes on
            kept = [one for one in model if not one[0].expired(searched_at)]
            assert backlog.forget_expired(searched_at) == len(model) - len(kept)
            model = kept
        else:
            backlog.push(each)
            model.append(each)
        assert len(backlog) == len(model)
        assert backlog.qos_0 == sum(one[2] < 0x32 for one in model)
        assert backlog.size == sum(one[0].size + OVERHEAD for one in model)
    assert list(backlog.take_all()) == model


def test_a_full_backlog_is_not_searched_for_every_message() -> None:
    backlog = Backlog()
    message = Publication("t", b"", 1, expires_at=10.0)
    backlog.push((message, None, 0x32))  # type: ignore[arg-type]  # no subscription is looked at
    assert backlog.forget_expired(10.0) == 1
    backlog.push((Publication("t", b"", 1, expires_at=10.4), None, 0x32))  # type: ignore[arg-type]
    backlog.push((Publication("t", b"", 1, expires_at=10.6), None, 0x32))  # type: ignore[arg-type]
    assert backlog.forget_expired(10.5) == 1
    assert backlog.forget_expired(10.7) == 0
    assert backlog.forget_expired(11.5) == 1
