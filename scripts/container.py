"""Carries out the Dockerfile where there is no Docker: its steps in a root of their own, then what it would start.

    sudo python scripts/container.py ARTEFACT IMAGE --python /usr/local --out results/container.json

ARTEFACT is what `reslab export` wrote, IMAGE one that it can classify. The root has this system's /usr beneath, a copy
of the Python that the Dockerfile names in /usr/local (``--python`` is its prefix), and nothing else that was installed
for Python. Each RUN is given to the shell as it stands, by chroot. Then ENTRYPOINT with CMD is started, as USER,
with the environment of ENV alone, the root read-only, /tmp empty and the artefact at /model: `docker run --read-only
--tmpfs /tmp`. HEALTHCHECK says when it is ready. What is not seen so: the base image, and Docker's own isolation.
"""

import argparse
import base64
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reslab.runs import made, write_json

REPOSITORY = Path(__file__).parents[1]
SHARED = ("usr", "bin", "sbin", "lib", "lib64", "dev", "proc")
"""Of this system; of the other folders /etc is a copy, as a user is added there."""
PORT = 8000


@dataclass
class Image:
    """What a Dockerfile says."""

    python: str = ""
    copied: list[tuple[list[str], str]] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> "Image":
        """Of its text; raises `ValueError` for a step that is not known here."""
        found = cls()
        lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        for line in filter(None, lines.replace("\\\n", " ").splitlines()):
            step, _, rest = line.strip().partition(" ")
            match step:
                case "FROM":
                    named = re.fullmatch(r"python:(\d+\.\d+)-slim", rest)
                    if named is None:
                        raise ValueError(f"FROM {rest}: expected python:X.Y-slim")
                    found.python = named[1]
                case "COPY":
                    *sources, to = rest.split()
                    found.copied.append((sources, to))
                case "RUN":
                    found.run.append(rest)
                case "ENV":
                    found.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
                case "USER":
                    found.user = rest
                case "HEALTHCHECK":
                    found.health = json.loads(rest.partition("CMD")[2])
                case "ENTRYPOINT" | "CMD":
                    found.command += json.loads(rest)
                case "EXPOSE" | "STOPSIGNAL":
                    pass
                case _:
                    raise ValueError(f"{step}: not known here")
        return found


def bind(source: Path, place: Path, *, write: bool = True) -> None:
    """Shows a folder in another place, to this process and its children alone."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", source, place], check=True)
    if not write:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)


def inside(root: Path, words: Sequence[str], env: Mapping[str, str], user: str = "0") -> list[str]:
    """The command that runs another within a root, with this environment alone."""
    given = [f"{name}={value}" for name, value in env.items()]
    return ["chroot", f"--userspec={user}:{user}", str(root), "/usr/bin/env", "-i", *given, *words]


def based(root: Path, python: Path, wanted: str) -> None:
    """Makes the root, with a Python of this version in /usr/local."""
    said = subprocess.run([python / "bin" / "python3", "--version"], capture_output=True, text=True, check=True).stdout
    if not said.startswith(f"Python {wanted}."):
        raise SystemExit(f"--python {python} is {said.strip()}; the Dockerfile's is {wanted}")
    local = root.with_name("local")
    shutil.copytree(python, local, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "__pycache__", "test"))
    for name in SHARED:
        if Path("/", name).exists():
            bind(Path("/", name), root / name, write=name in ("dev", "proc"))
    bind(local, root / "usr" / "local")
    subprocess.run(["cp", "-a", "/etc", root / "etc"], check=True)
    for name in ("tmp", "model", "root"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "model").chmod(0o755)
    root.chmod(0o755)
    for script in (local / "bin").glob("pip*"):
        script.unlink()  # their first line names where Python lay
    (local / "lib" / f"python{wanted}" / "site-packages").mkdir(parents=True)
    # Where Python is a shared library it is looked for in /usr/local/lib once the loader's list is made anew.
    for command in (["/sbin/ldconfig"], ["/usr/local/bin/python3", "-m", "ensurepip", "--default-pip"]):
        subprocess.run(inside(root, command, {"PATH": "/usr/local/bin:/usr/bin:/bin"}), check=True, stdout=sys.stderr)
    if not (local / "bin" / "pip").exists():
        (local / "bin" / "pip").symlink_to("pip3")
    if not (local / "bin" / "python").exists():
        (local / "bin" / "python").symlink_to("python3")


def size(folder: Path) -> float:
    """Megabytes on disk."""
    return round(sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6, 1)


def built(root: Path, image: Image) -> dict[str, Any]:
    """COPY and RUN."""
    for sources, to in image.copied:
        place = root / to.lstrip("/")
        for source in sources:
            (place if to.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            found = REPOSITORY / source
            (shutil.copytree if found.is_dir() else shutil.copy)(found, place / source if to.endswith("/") else place)
    # As a build has them: how the network is reached from here.
    network = {
        name: value for name, value in os.environ.items() if re.match("(?i)pip_|.*_proxy$|ssl_cert|.*ca_b", name)
    }
    env = network | {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "HOME": "/root"}
    before, seconds = size(root.with_name("local")), []
    for line in image.run:
        began = time.perf_counter()
        seen = subprocess.run(inside(root, ["sh", "-c", line], env), capture_output=True, text=True, check=False)
        if seen.returncode:
            raise SystemExit(f"RUN {line}\nended with {seen.returncode}:\n{seen.stdout[-2000:]}{seen.stderr[-2000:]}")
        seconds.append(round(time.perf_counter() - began, 1))
    return {"seconds_of_each_run": seconds, "installed_mb": round(size(root.with_name("local")) - before, 1)}


def started(root: Path, image: Image, artefact: Path, picture: bytes) -> dict[str, Any]:
    """What `docker run` would start, until it is told to stop."""
    bind(artefact, root / "model", write=False)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "tmp"], check=True)
    for place in (root / "usr" / "local", root):
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | image.env
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", PORT))  # else another's server would answer
    began = time.perf_counter()
    server = subprocess.Popen(inside(root, image.command, env, image.user), stderr=subprocess.PIPE, text=True)
    try:
        while subprocess.run(
            inside(root, image.health, env, image.user), capture_output=True, check=False
        ).returncode:  # fmt: skip
            if server.poll() is not None or time.perf_counter() - began > 60:
                server.kill()
                raise SystemExit(f"not ready: {server.communicate()[1][-2000:]}")
            time.sleep(0.1)
        ready = time.perf_counter() - began
        body = json.dumps({"image": base64.b64encode(picture).decode()}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}/v1/predict?top=1", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            said = json.load(answer)
        touched = subprocess.run(
            inside(root, ["touch", "/usr/local/x", "/x", "/model/x"], env, image.user), capture_output=True, check=False
        )
        status = Path(f"/proc/{server.pid}/status").read_text()
        libraries = Path(f"/proc/{server.pid}/maps").read_text()
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(30)
    return {
        "ready_after_s": round(ready, 2),
        "healthcheck": "passed",
        "answer": said["predictions"][0]["top"][0],
        "user": int(re.findall(r"Uid:\s+(\d+)", status)[0]),
        "torch_is_loaded": "libtorch" in libraries,
        "can_write_outside_tmp": touched.stderr.count(b"Read-only file system") != 3,
        "exit_code_on_sigterm": code,
    }


def apart() -> int:
    """Runs the same again where mounts are its own and go with it, so that its folder can then be taken away."""
    scratch = Path(tempfile.mkdtemp()).resolve()
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
    code = subprocess.run(command, env=os.environ | {"RESLAB_ROOT": str(scratch)}, check=False).returncode
    if str(scratch) in Path("/proc/self/mounts").read_text():
        raise SystemExit(f"{scratch} still shows this system's folders: unmount them before you delete it")
    shutil.rmtree(scratch)
    return code


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    words.add_argument("artefact", type=Path)
    words.add_argument("image", type=Path)
    words.add_argument("--python", type=Path, default=Path("/usr/local"), help="prefix of the Dockerfile's Python")
    words.add_argument("--out", type=Path)
    given = words.parse_args()
    if os.geteuid():
        raise SystemExit("chroot and mounts need root")
    if (place := os.environ.get("RESLAB_ROOT")) is None:
        raise SystemExit(apart())
    image = Image.read((REPOSITORY / "Dockerfile").read_text())
    root = Path(place) / "root"
    root.mkdir()
    bind(root, root)
    based(root, given.python.resolve(), image.python)
    record: dict[str, Any] = {"what": (__doc__ or "").split("\n", 1)[0], "python": image.python}
    record |= built(root, image)
    record |= started(root, image, given.artefact.resolve(), given.image.read_bytes())
    print(json.dumps(record, indent=2))
    if given.out is not None:
        write_json(given.out, record | {"made": made()})


if __name__ == "__main__":
    main()
