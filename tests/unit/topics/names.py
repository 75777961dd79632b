"""Topics and filters for the property tests: few level names, so that what is drawn often meets."""

from hypothesis import strategies as st

LEVELS = ("", "a", "b", "site", "$SYS", "$", "ä", "\U0001f4a1", " ")

levels = st.one_of(st.sampled_from(LEVELS), st.text("ab", min_size=1, max_size=2))

topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)

filters = st.tuples(
    st.lists(st.one_of(levels, st.just("+")), min_size=1, max_size=5),
    st.sampled_from(("", "", "/#")),
).map(lambda parts: "/".join(parts[0]) + parts[1]).filter(bool) | st.just("#")
