"""A shared object with functions that return 0, written byte by byte: no compiler, no NVIDIA library.

TensorRT's bindings import against such stubs, so that their names can be looked at where its libraries can't be had.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_ALIGN = 0x1000
_CODE = b"\x31\xc0\xc3".ljust(16, b"\x90")  # xor eax, eax; ret
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14


def stub_library(soname: str, functions: Sequence[str]) -> bytes:
    """The ELF file for x86-64 Linux: one segment that holds symbols, their names and the code of them all."""
    names, offsets = b"\0", []
    for name in (soname, *functions):
        offsets.append(len(names))
        names += name.encode() + b"\0"
    count = 1 + len(functions)
    at_symbols = 64 + 2 * 56  # behind the header and two program headers
    at_hash = at_symbols + 24 * count
    # One bucket, in which every symbol is chained to the next.
    table = struct.pack(
        f"<{3 + count}I", 1, count, 1 if functions else 0, 0, *range(2, count), *([0] * bool(functions))
    )
    at_names = at_hash + len(table)
    at_code = -(-(at_names + len(names)) // 16) * 16
    at_dynamic = at_code + len(_CODE)
    symbols = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", offset, 0x12, 0, 1, at_code, len(_CODE)) for offset in offsets[1:]
    )  # global functions
    entries = (
        (_DT_SONAME, offsets[0]), (_DT_HASH, at_hash), (_DT_STRTAB, at_names), (_DT_SYMTAB, at_symbols),
        (_DT_STRSZ, len(names)), (_DT_SYMENT, 24), (0, 0),
    )  # fmt: skip
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    size = at_dynamic + len(dynamic)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, size, size, _ALIGN)
    told = struct.pack("<IIQQQQQQ", 2, 6, at_dynamic, at_dynamic, at_dynamic, len(dynamic), len(dynamic), 8)
    body = symbols + table + names
    return (header + load + told + body).ljust(at_code, b"\0") + _CODE + dynamic
