"""The frames between the broker and its store process: any split of the stream reads the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.storage.wire import Frames, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=8,
)
MESSAGES = st.lists(st.lists(VALUES).map(tuple), max_size=5)


@given(MESSAGES, st.lists(st.integers(1, 40)))
def test_any_split_of_the_stream_reads_the_same(messages, sizes):
    stream, frames, read = b"".join(map(encode, messages)), Frames(), []
    for size in sizes:
        read += frames.feed(stream[:size])
        stream = stream[size:]
    read += frames.feed(stream)
    assert read == messages


def test_a_stream_of_single_bytes_reads_the_same():
    message = ("batch", 7, True, [("message_put", [(1, None, "a/b", b"\x00" * 300)])])
    frames = Frames()
    read = [each for byte in encode(message) * 2 for each in frames.feed(bytes([byte]))]
    assert read == [message, message]


def test_what_marshal_cannot_carry_is_refused():
    with pytest.raises(ValueError, match="unmarshallable"):
        encode((object(),))
