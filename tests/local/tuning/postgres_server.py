"""A PostgreSQL server of the tests: an ordinary user's, on a loopback port, in its own folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# PostgreSQL refuses to be run by root.
USERS = ("postgres", "nobody")
NAME, PASSWORD, DATABASE = "tuner", "S3cr/et@x", "postgres"
START_S = 60


def program_folder() -> Path | None:
    """Where `initdb` and `postgres` lie: on PATH, or where Debian's packages put them."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
    named = [Path(found).parent for name in ("postgres",) if (found := shutil.which(name))]
    folders = (*named, *reversed(debian))
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


class Server:
    """A server that can be stopped hard and started again on the same port.

    Args:
        programs: folder of `initdb` and `postgres`.
        folder: an empty folder that it may write to.
        user: arguments of `subprocess` that choose an ordinary user.
    """

    def __init__(self, programs: Path, folder: Path, user: dict[str, Any]) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port: int = one.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        self._run("initdb", "--pgdata=data", f"--username={NAME}", "--pwfile=password")

    @property
    def url(self) -> str:
        """Its address, with the password as an address has it."""
        shown = PASSWORD.replace("/", "%2F").replace("@", "%40")
        return f"postgresql+pg8000://{NAME}:{shown}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        # Processes of one that was killed end within moments; until then it does not start.
        end = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < end, (self._folder / "log").read_text()
            if self._process is None or self._process.poll() is not None:
                self._process = self._begin()
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _begin(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / "postgres", "-D", "data", *options],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._user,
            )

    def _run(self, program: str, *arguments: str) -> None:
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [self._programs / program, *arguments, *options],
            cwd=self._folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            **self._user,
        )

    def _answers(self) -> bool:
        import pg8000.dbapi

        try:
            pg8000.dbapi.connect(
                NAME, host="127.0.0.1", port=self.port, database=DATABASE, password=PASSWORD
            ).close()
        except (pg8000.dbapi.Error, OSError):
            return False
        return self._process is not None


def _environment() -> dict[str, str]:
    """Without variables that name another server."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"}


@contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    """A server for the block."""
    # pytest's folders are closed to the other user.
    folder = Path(tempfile.mkdtemp(prefix="postgres_"))
    user: dict[str, Any] = {}
    try:
        if os.geteuid() == 0:
            known = {entry.pw_name: entry for entry in pwd.getpwall()}
            one = next(known[name] for name in USERS if name in known)
            os.chown(folder, one.pw_uid, one.pw_gid)
            user = {"user": one.pw_uid, "group": one.pw_gid, "extra_groups": ()}
        server = Server(programs, folder, user)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
