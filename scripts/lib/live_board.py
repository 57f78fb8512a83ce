"""What the tests of proxy and monitoring share: Debian's programs, a private database, the release binary, and the results.

The caller removes the folder that it passes; `Database.stop` and `Board.stop` end the processes.
"""
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/twotier"
os.environ["PATH"] += ":/usr/sbin:/sbin"
POLICY = Path("/usr/sbin/policy-rc.d")


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def install(programs):
    """Installs the packages of missing programs, and starts no system service."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if not missing:
        return
    names = " ".join(missing)
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"error: these packages are missing: run 'sudo apt-get install {names}'.")
    print(f"installing {names} with apt-get", file=sys.stderr, flush=True)
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    try:
        run(*apt, "update")
        run(*apt, "install", "-y", "--no-install-recommends", *missing, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: apt-get did not install {names}: {error.stderr.strip()}")
    finally:
        if made:
            POLICY.unlink()


def in_environment(folder, packages):
    """Continues in a Python environment below the target folder that has the packages."""
    environment = BINARY.parent.parent / folder
    python, stamp = environment / "bin/python", environment / "packages"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        print("installing " + " and ".join(packages), file=sys.stderr, flush=True)
        run(sys.executable, "-m", "venv", "--clear", str(environment))
        run(str(python), "-m", "pip", "-q", "install", *packages)
        stamp.write_text(" ".join(packages))
    if Path(sys.prefix) != environment:
        os.execv(python, [str(python), *sys.argv])
    return environment / "bin"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(condition, seconds=20):
    """Returns the first true result of the condition. Errors of a connection count as false."""
    end = time.monotonic() + seconds
    while True:
        try:
            result = condition()
            if result:
                return result
        except (OSError, urllib.error.URLError):
            pass
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain")
        time.sleep(0.02)


class Database:
    """A private database server in a folder."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.start()

    def start(self):
        run("scripts/database", "start", self.folder, cwd=ROOT)

    def stop(self):
        run("scripts/database", "stop", self.folder, cwd=ROOT)

    def settings(self):
        return dict(line.split("=", 1) for line in run("scripts/database", "env", self.folder, cwd=ROOT).splitlines())


class Board:
    """The release binary on a port of its own. Its log and its access log are files below the folder of the database."""

    def __init__(self, database, **settings):
        self.database, self.port = database, free_port()
        self.log = Path(database.folder, f"board-{self.port}.log")
        self.access_log = Path(database.folder, f"access-{self.port}.log")
        self.url = f"http://127.0.0.1:{self.port}"
        self.start(**settings)

    def launch(self, **settings):
        """Starts the process, and does not wait."""
        environment = {**self.database.settings(), "BIND": "127.0.0.1", "PORT": str(self.port), "ACCESS_LOG": "combined", **settings}
        with self.log.open("ab") as log, self.access_log.open("ab") as access_log:
            self.process = subprocess.Popen([BINARY], env=environment, stdout=access_log, stderr=log)

    def start(self, **settings):
        self.launch(**settings)
        until(lambda: self.get("/readyz"))

    def get(self, path):
        return urllib.request.urlopen(self.url + path, timeout=2).read().decode()

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Results:
    """Prints a line for each check, and counts them."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def heading(self, text):
        print(f"\n== {text}", flush=True)

    def ok(self, what, condition, found=""):
        if condition:
            self.passed += 1
            print(f"ok    {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {what}", flush=True)
            for line in str(found).splitlines()[-15:]:
                print(f"      {line}")

    def same(self, what, wanted, found):
        self.ok(what, wanted == found, f"wanted: {wanted}\nfound:  {found}")

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)
