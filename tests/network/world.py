"""A network of the test's own: every address is this machine, names are what the test says, every packet is seen.

Runs inside `unshare --net --mount` only. AnyIP routes make all of IPv4 and IPv6 local; resolv.conf, nsswitch.conf and
hosts are replaced in the mount namespace; a packet socket on the only interface sees every connection attempt, whether
anybody listens there or not.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from ipaddress import ip_address
from pathlib import Path

DNS = "127.0.0.53"
SETTLE_SECONDS = 0.03
_TCP, _UDP = 6, 17
_A, _CNAME, _AAAA = 1, 5, 28
_MS_BIND = 4096
Answers = dict[str, list[str]]
"""Name → addresses and aliases; a list of lists gives one answer after the other."""


def build() -> None:
    """Make this namespace's network and name service. Raises OSError or CalledProcessError where it may not."""
    for command in (
        "ip link set lo up",
        "ip route add local 0.0.0.0/0 dev lo",
        "ip -6 route add local ::/0 dev lo",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    libc = ctypes.CDLL(None, use_errno=True)
    files = {
        "/etc/resolv.conf": f"nameserver {DNS}\noptions timeout:1 attempts:2\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
        "/etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.7 box.test\n",
    }
    for path, text in files.items():
        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        if libc.mount(file.name.encode(), os.path.realpath(path).encode(), None, _MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), f"can't mount over {path}")


class Watch:
    """Every TCP connection attempt and every UDP datagram, as (protocol, address, port)."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, int]] = set()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        threading.Thread(target=self._look, daemon=True).start()

    def take(self) -> set[tuple[str, str, int]]:
        """What was tried since the last call, without questions to the name server."""
        time.sleep(SETTLE_SECONDS)
        seen, self._seen = self._seen, set()
        return {(kind, address, port) for kind, address, port in seen if (kind, address, port) != ("udp", DNS, 53)}

    def _look(self) -> None:
        while True:
            packet = self._socket.recv(65536)[14:]
            if packet[0] >> 4 == 4:
                protocol, start, to = packet[9], (packet[0] & 15) * 4, str(ip_address(packet[16:20]))
            else:
                protocol, start, to = packet[6], 40, str(ip_address(packet[24:40]))
            source, port = struct.unpack("!HH", packet[start : start + 4])
            if protocol == _TCP and packet[start + 13] & 0x12 == 0x02:  # SYN without ACK
                self._seen.add(("tcp", to, port))
            elif protocol == _UDP and source != 53:
                self._seen.add(("udp", to, port))


class Names:
    """A name server. `answers` may change at any time; an unlisted name doesn't exist, "silent" gets no answer."""

    def __init__(self, answers: dict[str, list[str] | list[list[str]]]) -> None:
        self._answers = answers
        self._asked: dict[tuple[str, int], int] = defaultdict(int)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((DNS, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            labels, at = [], 12
            while size := query[at]:
                labels.append(query[at + 1 : at + 1 + size].decode("latin-1"))
                at += 1 + size
            kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
            name = ".".join(labels).lower()
            if name.startswith("silent"):
                continue
            records = self._records(name, kind)
            flags = 0x8180 if name in self._answers else 0x8183
            head = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
            self._socket.sendto(head + query[12 : at + 5] + b"".join(records), client)

    def _records(self, name: str, kind: int) -> list[bytes]:
        given = self._answers.get(name, [])
        if given and isinstance(given[0], list):
            turn = min(self._asked[name, kind], len(given) - 1)
            self._asked[name, kind] += 1
            given = given[turn]
        records = []
        for value in given:
            try:
                address = ip_address(str(value))
            except ValueError:
                records += [_record(name, _CNAME, _encoded(str(value))), *self._records(str(value), kind)]
            else:
                if (address.version == 4) == (kind == _A) and kind in (_A, _AAAA):
                    records.append(_record(name, kind, address.packed))
        return records


def _encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _record(name: str, kind: int, data: bytes) -> bytes:
    return _encoded(name) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data  # a time to live of 0


class Web:
    """Speaks HTTP on port 80 of every address; `answer(host, path)` gives the whole reply or takes the socket."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((any_address, 80))
            listener.listen(512)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection: socket.socket) -> None:
        try:
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                    head += chunk
                lines = head.decode("latin-1").split("\r\n")
                host = next((line[6:] for line in lines if line.lower().startswith("host: ")), "")
                self._answer(connection, host, lines[0].split(" ")[1] if " " in lines[0] else "")  # type: ignore[operator]
        except OSError:
            pass  # the client has hung up, as it should on most of this
