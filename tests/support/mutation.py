"""Bytes that were good once: parts cut out, doubled, replaced by what parsers stumble over."""

from collections.abc import Sequence

from hypothesis import strategies as st

_STUMBLING: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b"null",
    b"[]",
    b"{}",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"{{",
    b"}}",
    b"/*",
    b"*/}}",
    b"\n",
    b"\r\n",
    b": ",
    b"&a [*a]",
    b'"',
    b"'",
    b"`",
    b"\\",
    b"\xe2\x80\xa8",
)
_VALUES: tuple[bytes, ...] = (
    b"null", b"7", b"-1", b"1e999", b"true", b'""', b'"x"', b"[]", b"[7]", b"{}", b'{"a": 7}', b'"\\ud800"',
    b"[" * 3000 + b"]" * 3000, b"9" * 5000,
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after a few changes; where it is JSON, values are replaced by values of other kinds, too."""
    found = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(found)))
        end = min(len(found), begin + draw(st.sampled_from((0, 0, 1, 2, 7, 40))))
        how = draw(st.sampled_from(("value", "value", "value", "put", "put", "double", "noise")))
        if how == "value":
            found = with_value(found, begin, draw(st.sampled_from(_VALUES)))
        elif how == "put":
            found = found[:begin] + draw(st.sampled_from(_STUMBLING)) + found[end:]
        elif how == "double":
            found = found[:end] + found[begin:end] + found[end:]
        else:
            found = found[:begin] + draw(st.binary(max_size=6)) + found[end:]
    return found


def with_value(text: bytes, near: int, value: bytes) -> bytes:
    """The JSON value after the next colon replaced, brackets and all; the text as it is where there is none."""
    at = text.find(b":", near)
    if at < 0:
        return text
    begin = at + 1
    while text[begin : begin + 1] == b" ":
        begin += 1
    end = _end_of(text, begin)
    return text[:begin] + value + text[end:]


def _end_of(text: bytes, begin: int) -> int:
    """Where the JSON value that begins there ends."""
    depth, quoted, at = 0, False, begin
    while at < len(text):
        char = text[at : at + 1]
        if quoted:
            at += char == b"\\"
            quoted = char != b'"'
            if not quoted and depth == 0:
                return at + 1
        elif char == b'"':
            quoted = True
        elif char in b"[{":
            depth += 1
        elif char in b"]}":
            if depth == 0:
                return at
            depth -= 1
            if depth == 0:
                return at + 1
        elif char in b",\n" and depth == 0:
            return at
        at += 1
    return len(text)
