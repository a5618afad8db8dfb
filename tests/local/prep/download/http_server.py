"""A web server on the loopback that breaks in the ways that real ones do."""

import email.utils
import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """How one answer goes wrong.

    Attributes:
        cut_at: bytes of the body after which the connection is dropped.
        status: an error instead of the file.
        headers: that go with it.
        body: sent instead of the file.
        hang: an event to wait for after half of the body.
    """

    cut_at: int | None = None
    status: int | None = None
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    hang: threading.Event | None = None


@dataclass
class Hosted:
    """A file on the server; its faults are used up from the first on, an answer each."""

    body: bytes
    faults: list = field(default_factory=list)
    ranges: bool = True
    etag: str | None = None
    last_modified: float | None = None
    length: bool = True
    chunked: bool = False
    content_type: str = "application/octet-stream"


class Server:
    """Files by path (`server.files`), and what was asked for (`server.requests`)."""

    def __init__(self):
        self.files: dict[str, Hosted] = {}
        self.requests: list[tuple[str, str, dict]] = []
        handler = type("Handler", (_Handler,), {"host": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def put(self, path, body, **about):
        """Host a file at /path, with a strong ETag unless told otherwise; gives its address."""
        about.setdefault("etag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.files[f"/{path}"] = Hosted(body, **about)
        return f"{self.url}/{path}"

    def put_record(self, number, files):
        """Host a listing like Zenodo's of {name: bytes}."""
        listing = [
            {"key": name, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
            for name, body in files.items()
        ]
        return self.put(f"api/records/{number}", json.dumps({"files": listing}).encode())

    def asked(self, path, method="GET"):
        """The headers of each request for /path."""
        return [headers for how, where, headers in self.requests if (how, where) == (method, path)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: Server

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        self.host.requests.append((self.command, self.path, dict(self.headers)))
        hosted = self.host.files.get(self.path)
        if hosted is None:
            self._error(404, {})
            return
        fault = hosted.faults.pop(0) if hosted.faults and with_body else Fault()
        if fault.status is not None:
            self._error(fault.status, fault.headers)
            return
        body = hosted.body if fault.body is None else fault.body
        start = self._start(hosted, len(body))
        if start is not None and start >= len(body):
            self._error(416, {"Content-Range": f"bytes */{len(body)}"})
            return
        self._head(hosted, start, len(body), fault)
        if with_body:
            self._body(hosted, body[start or 0 :], fault)

    def _start(self, hosted, size):
        """First byte of the range asked for; None when the whole file is to be sent."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not (asked and hosted.ranges):
            return None
        condition = self.headers.get("If-Range")
        if condition and condition not in (hosted.etag, self._modified(hosted)):
            return None
        return int(asked[1])

    @staticmethod
    def _modified(hosted):
        if hosted.last_modified is None:
            return None
        return email.utils.formatdate(hosted.last_modified, usegmt=True)

    def _head(self, hosted, start, size, fault):
        self.send_response(200 if start is None else 206)
        headers = {
            "Content-Type": hosted.content_type,
            "ETag": hosted.etag,
            "Last-Modified": self._modified(hosted),
        }
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if hosted.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif hosted.length:
            headers["Content-Length"] = str(size - (start or 0))
        else:
            self.close_connection = True
        for name, value in {**headers, **fault.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _body(self, hosted, body, fault):
        if fault.hang:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            fault.hang.wait(60)
            body = body[len(body) // 2 :]
        if fault.cut_at is not None:
            body = body[: fault.cut_at]
        if hosted.chunked:
            body = b"%x\r\n%s\r\n" % (len(body), body) + b"0\r\n\r\n" * (fault.cut_at is None)
        try:
            self.wfile.write(body)
            self.wfile.flush()
            if fault.cut_at is not None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True  # The client had enough.

    def _error(self, status, headers):
        self.send_response(status)
        body = b"" if self.command == "HEAD" else b"no"
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
