"""The size that a JPEG XL file declares (ISO/IEC 18181-1): its plugin decodes as it opens, so this is asked before."""

from __future__ import annotations

import struct

BARE, BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # columns : rows
BITS = (9, 13, 18, 30)  # of a side, by two bits before it


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream, after its signature; empty where there is none."""
    if data.startswith(BARE):
        return data[2:18]
    at = 0
    while data.startswith(BOXED) and at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        inside = at + 8
        if length == 1:  # a longer number follows
            (length,), inside = struct.unpack_from(">Q", data, inside), inside + 8
        if kind in (b"jxlc", b"jxlp"):
            inside += 4 * (kind == b"jxlp")  # a part's number
            return data[inside + 2 : inside + 18]
        if length < 8:  # the last box, or no box
            break
        at += length
    return b""


def declared_size(data: bytes) -> tuple[int, int] | None:
    """(columns, rows) of a JPEG XL picture; None for what is none, or does not get as far as its size."""
    head = _codestream(data)
    if not head:
        return None
    bits = int.from_bytes(head, "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(BITS[take(2)]) + 1

    rows = side()
    ratio = take(3)
    if not ratio:
        return side(), rows
    wide, high = RATIOS[ratio - 1]
    return rows * wide // high, rows
