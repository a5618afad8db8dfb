"""Stands in for yt-dlp and ffmpeg, whichever name it is run by; `Desk` tells it how to reply.

$FAKE_PROGRAMS is a folder: replies.json says {program: {video: [reply, ...]}}, of which each call
takes the next and the last one stays; every call appends its arguments to PROGRAM.VIDEO.
"""

import json
import os
import subprocess
import sys
import time
import wave
import zlib
from pathlib import Path

RATE = 44100
VIDEO_S = 300


def level(video: str, start_s: float) -> int:
    """The sample value that is heard in a video from a second on."""
    return zlib.crc32(f"{video} {start_s:.3f}".encode()) % 30000 + 1


def main(arguments: list[str]) -> int:
    program = "ffmpeg" if Path(sys.argv[0]).name == "ffmpeg" else "yt-dlp"
    address = arguments[arguments.index("-i") + 1] if program == "ffmpeg" else arguments[-1]
    video = address[-11:]
    reply = next_reply(program, video, arguments)
    if reply == "hang":
        # As yt-dlp's JavaScript engine would, a program of its own keeps the pipe open.
        child = subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(600)"])
        (desk() / "hanging").write_text(str(child.pid))
        child.wait()
    return (ffmpeg if program == "ffmpeg" else yt_dlp)(video, reply, arguments)


def desk() -> Path:
    return Path(os.environ["FAKE_PROGRAMS"])


def next_reply(program: str, video: str, arguments: list[str]) -> object:
    record = desk() / f"{program}.{video}"
    before = len(record.read_text().splitlines()) if record.exists() else 0
    told = {
        "arguments": arguments,
        "time": time.time(),
        "http_proxy": os.environ.get("http_proxy"),
    }
    with record.open("a") as file:
        file.write(json.dumps(told) + "\n")
    replies = json.loads((desk() / "replies.json").read_text())[program].get(video, ["ok"])
    return replies[min(before, len(replies) - 1)]


def yt_dlp(video: str, reply: object, arguments: list[str]) -> int:
    if "--cookies" in arguments:
        # The real one writes its jar back.
        path = Path(arguments[arguments.index("--cookies") + 1])
        with (desk() / "cookies").open("a") as file:
            file.write(f"{path}\t{path.stat().st_mode & 0o777:o}\t{path.read_text()}\n")
        path.write_text("changed")
    if reply == "garbage":
        print("not JSON")
        return 0
    told = {
        "url": f"https://127.0.0.1/secret/{video}",
        "http_headers": {"User-Agent": "stand-in"},
        "duration": VIDEO_S,
    }
    if isinstance(reply, dict):
        if "error" in reply:
            print(f"ERROR: [youtube] {video}: {reply['error']}", file=sys.stderr)
            return 1
        told.update(reply)
    print(json.dumps(told))
    return 0


def ffmpeg(video: str, reply: object, arguments: list[str]) -> int:
    start_s, length_s = (float(arguments[arguments.index(flag) + 1]) for flag in ("-ss", "-t"))
    if reply == "fail":
        print(f"https://127.0.0.1/secret/{video}: Server returned 5XX", file=sys.stderr)
        return 1
    if reply == "full":
        print("Error writing trailer: No space left on device", file=sys.stderr)
        return 1
    if isinstance(reply, float):
        length_s = reply
    with wave.open(arguments[-1], "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        sample = level(video, start_s).to_bytes(2, "little")
        file.writeframes(sample * round(length_s * RATE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
