"""A Postgres server for tests, on a socket in a temporary folder: found on this machine, started and stopped here."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MISSING = (
    "the tests of the Postgres store need a Postgres server (initdb and postgres). "
    "Type: scripts/install.sh .venv dev, or sudo apt-get install postgresql"
)
PASSWORD = "s3cret-Pa55"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
_FAST = {"fsync": "off", "full_page_writes": "off"}


def binaries() -> Path:
    """The folder of initdb and postgres. RuntimeError, which says what to type, when there is none."""
    folders = [Path(name) for name in os.environ.get("PATH", "").split(os.pathsep) if name]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return (folder / "initdb").resolve().parent
    raise RuntimeError(MISSING)


class Server:
    """A cluster of its own. Postgres refuses to run as root, so there it runs as `postgres` or `nobody`."""

    def __init__(self, *, durable: bool = False, **settings: str) -> None:
        self._bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="lllm-pg-", dir="/tmp"))
        self.data = self.folder / "data"
        self._user = _unprivileged() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.folder.chmod(0o755)
        self.port = _free_port()
        self._settings = {**_SETTINGS, **({} if durable else _FAST), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._do(
            "initdb", "-D", str(self.data), "-U", "owner", "-E", "UTF8", "--no-locale", "--no-sync",
            "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}",
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The address by socket, where nobody is asked for a password."""
        return f"postgresql://owner@/postgres?host={self.folder}&port={self.port}"

    def tcp(self, *, user: str = "owner", password: str = PASSWORD, database: str = "postgres") -> str:
        """The address by TCP, where the password counts."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Server:
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        log = open(self.folder / "log", "ab")  # noqa: SIM115  the child's
        with log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data), "-k", str(self.folder), "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **self._as_user(),
            )  # fmt: skip
        import psycopg

        for _ in range(3000):
            if self._process.poll() is not None:
                break
            with suppress(psycopg.OperationalError), psycopg.connect(self.url):
                return self
            time.sleep(0.05)
        raise RuntimeError(f"Postgres did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """kill -9 of the server and all its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while left := self._children():  # the next server would find their shared memory in use
            for number in left:
                with suppress(OSError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.02)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _children(self) -> list[int]:
        """The processes of the server, which have groups of their own."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cwd"):
            with suppress(OSError):
                if entry.resolve() == self.data:
                    found.append(int(entry.parent.name))
        return found

    def let_go(self) -> int:
        """The process id: from now on somebody else stops it, for whom the process is not a child."""
        assert self._process is not None
        self._process.returncode = 0
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(300)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _do(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), *words], capture_output=True, cwd=self.folder, check=False, **self._as_user()
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr.decode()}")

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        home = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "LC_ALL": "C"}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "env": home}


@contextmanager
def running(*, durable: bool = False, **settings: str) -> Iterator[Server]:
    """A server of one's own."""
    server = Server(durable=durable, **settings)
    try:
        yield server.start()
    finally:
        server.remove()


@contextmanager
def shared(folder: Path) -> Iterator[str]:
    """The address of the one server of all workers of a test run; `folder` is theirs together. The last one to leave
    stops it."""
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users"
    with _locked(folder):
        count = int(users.read_text()) if users.exists() else 0
        if count == 0:
            server = Server().start()
            (folder / "server").write_text(f"{server.let_go()}\n{server.folder}\n{server.url}")
        users.write_text(str(count + 1))
        pid, place, url = (folder / "server").read_text().split("\n")
    try:
        yield url
    finally:
        with _locked(folder):
            count = int(users.read_text()) - 1
            users.write_text(str(count))
            if count == 0:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGQUIT)
                with suppress(ChildProcessError):
                    os.waitpid(int(pid), 0)
                for _ in range(1000):
                    if not (Path(place) / "data" / "postmaster.pid").exists():
                        break
                    time.sleep(0.05)
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("Postgres does not run as root, and there is neither a user `postgres` nor `nobody`")


def _free_port() -> int:
    """Below those that the system gives away by itself: it must still be free when the server is started again."""
    import secrets
    import socket

    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
