"""What a child process gives up before it touches a stranger's bytes, and the bounds of each attempt. Linux only.

CPU time is bounded by ITIMER_PROF, whose signal no decoder handles (RLIMIT_CPU, in whole seconds, stands behind it);
memory by RLIMIT_AS above what the process has mapped at that moment. Both are the kernel's work: no code of ours has
to run for them to bite.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_PAGE = resource.getpagesize()
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
# Audit architecture, and the numbers of: socket, socketpair, connect, bind, sendto, execve, execveat, ptrace,
# process_vm_readv, process_vm_writev, io_uring_setup; on x86-64 also fork and vfork.
_SYSCALLS = {
    "x86_64": (0xC000003E, (41, 53, 42, 49, 44, 59, 322, 101, 310, 311, 425, 57, 58)),
    "aarch64": (0xC00000B7, (198, 199, 203, 200, 206, 221, 281, 117, 270, 271, 425)),
}


def forbid_files_and_network() -> bool:
    """Give up core dumps, writing files and, where the kernel allows, sockets and starting programs.

    Returns whether the kernel filter stands.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return _seccomp()


@contextlib.contextmanager
def bounded(cpu_seconds: float, memory_bytes: int) -> Iterator[Callable[[], int]]:
    """One attempt: past `cpu_seconds` the process is killed; past `memory_bytes` more than now, allocations fail.

    Gives a function that tells how many bytes may still be mapped.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    backstop = int(usage.ru_utime + usage.ru_stime + cpu_seconds) + 2
    limit = _mapped_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_CPU, (backstop, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    for number in (signal.SIGPROF, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield lambda: limit - _mapped_bytes()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE


def _seccomp() -> bool:
    known = _SYSCALLS.get(platform.machine())
    if known is None:
        return False
    architecture, denied = known
    # Classic BPF over struct seccomp_data: (code, jump if true, jump if false, operand).
    program = [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 1, 0, architecture),
        (0x06, 0, 0, _KILL),
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x35, len(denied), 0, 0x40000000),  # x32's numbers would get around the list
        *((0x15, len(denied) - index, 0, number) for index, number in enumerate(denied)),
        (0x06, 0, 0, _ALLOW),
        (0x06, 0, 0, _EPERM),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, header, 0, 0) == 0)
