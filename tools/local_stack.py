"""One Kafka broker and one Redis for a process, or for a checkout: free ports, a folder of their own, a clean end."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path

from tools.kafka_broker import jars, kafka_broker
from tools.redis_cache import redis_cache
from tools.server import PortTakenError, Server, StackUnavailableError, free_port

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / ".run"
TRIES = 5


class Stack:
    """One Kafka broker and one Redis.

    By default they belong to this process and end with it, however it ends. `Stack(folder=…, owned=False)` leaves them
    running, and the same call in another process finds them again.
    """

    def __init__(self, folder: Path | None = None, *, owned: bool = True) -> None:
        self._owned = owned
        self.folder = folder
        self._ports: dict[str, int] = {}
        self._kafka: Server | None = None
        self._redis: Server | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What `ADSCORE_KAFKA__BOOTSTRAP_SERVERS` takes."""
        return f"127.0.0.1:{self._ports['broker']}"

    @property
    def redis_url(self) -> str:
        """What `ADSCORE_REDIS__URL` takes."""
        return f"redis://127.0.0.1:{self._ports['redis']}/0"

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which every verb finds this stack."""
        return {"ADSCORE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers, "ADSCORE_REDIS__URL": self.redis_url}

    @property
    def kafka(self) -> Server:
        """The broker's process."""
        return self._started(self._kafka)

    @property
    def redis(self) -> Server:
        """The Redis server's process."""
        return self._started(self._redis)

    @staticmethod
    def _started(server: Server | None) -> Server:
        if server is None:
            raise StackUnavailableError("the stack hasn't been started; call start() first")
        return server

    def start(self) -> Path:
        """Start what doesn't run yet, with the ports and the data it had. Ready when this returns its folder.

        Raises:
            StackUnavailableError: something is missing or doesn't start; the text says what to do.
        """
        libs = jars(ROOT / ".cache")
        if self.folder is None:
            RUN.mkdir(exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="own-", dir=RUN))
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(TRIES):
            self._assemble(self.folder, libs)
            try:
                self._start_both()
            except PortTakenError:
                self.stop()  # another program was faster: all anew, on other ports
                self._ports = {}
                self.folder.mkdir(parents=True, exist_ok=True)
            except BaseException:
                self.stop()
                raise
            else:
                return self.folder
        raise StackUnavailableError(f"{TRIES} times in a row another program took the ports chosen; try again")

    def _assemble(self, folder: Path, libs: Path) -> None:
        record = folder / "ports.json"  # only a stack that stays is looked for by another process
        if not self._owned and record.exists():
            self._ports = json.loads(record.read_text())
        elif not self._ports:
            self._ports = {"broker": free_port(), "controller": free_port(), "redis": free_port()}
            if not self._owned:
                record.write_text(json.dumps(self._ports))
        self._kafka = kafka_broker(
            folder / "kafka",
            libs,
            broker_port=self._ports["broker"],
            controller_port=self._ports["controller"],
            owned=self._owned,
        )
        self._redis = redis_cache(folder / "redis", port=self._ports["redis"], owned=self._owned)

    def _start_both(self) -> None:
        for server in (self.kafka, self.redis):
            if server.pid is None:
                server.start()
            else:
                server.signal(signal.SIGCONT)

    ensure = _start_both

    def stop(self) -> None:
        """Stop both and remove their folder. Twice does no harm."""
        for server in (self._kafka, self._redis):
            if server is not None:
                server.stop(seconds=0)  # the data goes too, so there is nothing to flush
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill_broker(self) -> None:
        """SIGKILL: a crash."""
        self.kafka.stop(seconds=0)

    def pause_broker(self) -> None:
        """SIGSTOP: a hang. Connections stay open, nothing answers."""
        self.kafka.signal(signal.SIGSTOP)

    def resume_broker(self) -> None:
        """End of the hang."""
        self.kafka.signal(signal.SIGCONT)

    def restart_broker(self) -> None:
        """Stop the broker in an orderly way if it runs, and start it with the same ports and data."""
        self.kafka.stop()
        self.kafka.start()

    def stop_redis(self) -> None:
        """Redis is gone, and what it held."""
        self.redis.stop()

    def start_redis(self) -> None:
        """Redis is back on the same port, empty."""
        if self.redis.pid is None:
            self.redis.start()

    def pause_redis(self) -> None:
        """SIGSTOP: Redis accepts connections (the kernel does) and never answers."""
        self.redis.signal(signal.SIGSTOP)

    def resume_redis(self) -> None:
        """End of the hang."""
        self.redis.signal(signal.SIGCONT)
