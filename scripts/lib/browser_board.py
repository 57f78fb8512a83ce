"""What the browser tests drive: boards on a private database, a proxy in front of one, and Chromium.

Holds no test. Nothing here waits for a fixed time.
"""
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("BINARY", TARGET / "release/twotier")
PASSWORD = "the-moderators-password"
# Make all waits of a page ten times longer or shorter.
REST = "const slowly = setTimeout; window.setTimeout = (act, ms) => slowly(act, ms * 10);"
HURRY = "const slowly = setTimeout; window.setTimeout = (act, ms) => slowly(act, ms / 10);"


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, **options):
    result = subprocess.run(command, text=True, capture_output=True, **options)
    if result.returncode:
        raise RuntimeError(f"{command[0]}: {result.stderr}")
    return result.stdout


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain")
        time.sleep(0.02)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Board:
    """A board with a schema of its own, which may be stopped and started again."""

    number = 0

    def __init__(self, folder, **settings):
        Board.number += 1
        self.folder, self.schema, self.port = folder, f"board_{Board.number}", free_port()
        lines = run("scripts/database", "env", folder, cwd=ROOT).splitlines()
        self.settings = {**dict(line.split("=", 1) for line in lines), "MYSQL_DB": self.schema, **settings}
        self.password = Path(folder, "admin-password").read_text().strip()
        self.sql(f"CREATE DATABASE {self.schema}", "")
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def sql(self, text, schema=None):
        port = Path(self.folder, "port").read_text().strip()
        client = shutil.which("mariadb") or shutil.which("mysql")
        command = [client, "-h127.0.0.1", "-P" + port, "-uadmin", "--default-character-set=utf8mb4", "-N", *([self.schema] if schema is None else [])]
        return run(*command, input=text, env={**os.environ, "MYSQL_PWD": self.password}).strip()

    def start(self):
        settings = {**self.settings, "MYSQL_USER": "admin", "MYSQL_PASSWORD": self.password, "BIND": "127.0.0.1", "PORT": str(self.port)}
        settings.pop("MYSQL_PASSWORD_FILE", None)
        self.process = subprocess.Popen([BINARY], env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self.read("readyz"))

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def database(self, action):
        run("scripts/database", action, self.folder, cwd=ROOT)

    def read(self, path):
        return urllib.request.urlopen(self.url + path, timeout=2).read().decode()

    def post(self, message):
        request = urllib.request.Request(self.url + "messages", json.dumps({"message": message}).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=5))["id"]

    def post_many(self, number):
        self.sql(f"INSERT INTO messages (message) SELECT CONCAT('many ', seq) FROM seq_1_to_{number}")

    def text(self, identity):
        return self.sql(f"SELECT message FROM messages WHERE id = {identity}")

    def edit(self, identity, text):
        self.sql(f"UPDATE messages SET message = '{text}', edited_at = UTC_TIMESTAMP(6) WHERE id = {identity}")

    def streams(self):
        return int(float(re.search(r"^twotier_live_streams (\S+)$", self.read("metrics"), re.M)[1]))


class Proxy(http.server.ThreadingHTTPServer):
    """A reverse proxy that puts a board below the path /board/."""

    def __init__(self, board):
        super().__init__(("127.0.0.1", 0), ProxyRequest)
        self.port = board.port
        self.url = f"http://127.0.0.1:{self.server_port}/board/"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Browsers close streams while these are written."""


class ProxyRequest(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not self.path.startswith("/board/"):
            return self.send_error(404)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port)
        upstream.request(self.command, self.path.removeprefix("/board"), body, dict(self.headers))
        answer = upstream.getresponse()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        while part := answer.read1(65536):
            self.wfile.write(part)
            self.wfile.flush()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *arguments):
        """Nothing: the tests print results only."""


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit("error: Chromium is not installed: run 'sudo apt-get install chromium'.")
    say("installing the package chromium with apt-get")
    run("apt-get", "update")
    run("apt-get", "install", "-y", "--no-install-recommends", "chromium", env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return shutil.which("chromium")


class Browser:
    """Chromium. Collects what no page may do: errors on the console, and requests to other hosts."""

    def __init__(self, playwright):
        self.chromium = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        self.faults, self.contexts, self.expects_errors = [], [], False

    def window(self, **options):
        """A window of its own: it shares nothing with others."""
        self.contexts.append(self.chromium.new_context(**options))
        return self.contexts[-1]

    def tab(self, window, board, path="", init=None):
        page = window.new_page()
        if init:
            page.add_init_script(init)
        page.set_default_timeout(8000)
        page.on("console", lambda message: message.type == "error" and not self.expects_errors and self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: request.url.startswith(board.url) or self.faults.append("requested " + request.url))
        page.goto(board.url + path)
        return page

    def open(self, board, path="", init=None, **options):
        return self.tab(self.window(**options), board, path, init)

    def open_live(self, board, path="", init=None, **options):
        page = self.open(board, path, init, **options)
        wait_live(page)
        return page

    def end(self):
        for context in self.contexts:
            context.close()
        faults, self.faults, self.contexts, self.expects_errors = self.faults, [], [], False
        assert not faults, faults


def wait_live(page):
    """A message that comes later arrives by the stream."""
    page.wait_for_function("() => events?.readyState === EventSource.OPEN")


def within_a_second(attempts=3):
    """Texts for so many attempts, one of which must end within a second: the machine may be busy with other work."""
    seconds = []
    for number in range(attempts):
        began = time.monotonic()
        yield f"attempt {number}"
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 1, seconds


def send(page, text):
    page.fill("#text", text)
    page.click("#new-message button")


def card(page, text):
    return page.locator("#messages li", has_text=text)


def problem(page):
    page.wait_for_function("() => document.getElementById('problem').textContent")
    return page.inner_text("#problem")


def scroll_down(page):
    """Until the beginning of the list is out of view."""
    page.evaluate("scrollTo(0, 600)")
    page.wait_for_function("() => list.getBoundingClientRect().top < 0")


def log_in(page, password=PASSWORD):
    page.click("#moderate")
    page.fill("dialog input", password)
    page.click("dialog button:text-is('Moderate')")
    page.wait_for_selector("dialog", state="detached")
