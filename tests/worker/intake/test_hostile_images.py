"""The public set of odd and broken images as records of a batch: nothing leaks, nobody waits for a bad one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.worker.intake.test_decode import encoded, many_scans, picture
from worker.errors import Code, CreativeError
from worker.intake.decode import DecoderPool

SIZE = (64, 64)
GROWTH_BYTES = 48 << 20
"""Of a child over the whole set, several times: one that leaked what it decodes would pass it in one round."""


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    made = DecoderPool(2, [SIZE])
    yield made
    made.close()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def decode_all(pool: DecoderPool, files: list[bytes]) -> list[str]:
    def one(data: bytes) -> str:
        try:
            return pool.decode(data, ocr=True).format
        except CreativeError as error:
            return str(error.code)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, files))


@pytest.mark.data
def test_the_set_leaks_neither_memory_nor_descriptors_and_its_verdicts_repeat(
    pool: DecoderPool, data_root: Path
) -> None:
    names = [
        line.split("\t")[0] for line in (data_root / "hostile_images" / "outcomes.tsv").read_text().splitlines()[1:]
    ]
    files = [(data_root / "hostile_images" / name).read_bytes() for name in names]
    assert len(files) == 397
    first = decode_all(pool, files)
    formats = {"JPEG", "PNG", "GIF", "WEBP", "AVIF"}
    assert set(first) <= formats | {Code.UNSUPPORTED_FORMAT, Code.BAD_IMAGE, Code.IMAGE_BOMB}
    pids, own = pool.pids(), descriptors(os.getpid())
    before = {pid: (resident_bytes(pid), descriptors(pid)) for pid in pids}
    for _ in range(2):
        assert decode_all(pool, files) == first, "one verdict each"
    assert pool.pids() == pids, "no image of the set ends a child"
    assert descriptors(os.getpid()) == own
    for pid, (memory, open_files) in before.items():
        assert descriptors(pid) == open_files
        assert resident_bytes(pid) - memory < GROWTH_BYTES


def test_neighbours_never_wait_for_a_bad_one(pool: DecoderPool) -> None:
    """While one record keeps its decoder busy up to its bound, the others pass through the next one."""
    slow = many_scans(88, side=5_000, detail=6)  # over two seconds of CPU, within every limit of the header
    good = encoded(picture(), "JPEG")
    ended: list[float] = []
    with ThreadPoolExecutor(1) as bad, ThreadPoolExecutor(1) as others:
        busy = bad.submit(_time, pool, slow)
        time.sleep(0.1)
        ended = list(others.map(lambda data: _time(pool, data), [good] * 20))
        assert not busy.done(), "it is slow enough to be noticed"
        slowest = busy.result()
    assert max(ended) < slowest / 2


def _time(pool: DecoderPool, data: bytes) -> float:
    began = time.monotonic()
    with suppress(CreativeError):
        pool.decode(data, ocr=True)
    return time.monotonic() - began
