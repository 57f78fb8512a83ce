"""Clients of boards: writers that repeat a post with the same key until it is acknowledged, readers, and probes of the database
nodes. Records what each request got. Breaks nothing, and judges nothing.
"""
import http.client
import json
import random
import re
import threading
import time

import history
from cluster import DB_TIMEOUT, HUB, Sql, must

WRITERS, READERS = 3, 2
now = time.monotonic


class Load:
    """Writers and readers on each route, and a probe on each node. Records what they do."""

    def __init__(self, file, routes, nodes):
        self.records = []
        self.file = file
        self.routes = routes
        self.nodes = nodes
        self.lock = threading.Lock()
        self.ends = threading.Event()
        self.threads = []
        self.acknowledged = []
        self.commits = {node.name: [] for node in nodes}

    def start(self):
        for route in self.routes:
            self.spawn(self.write, f"{route}-w", route, WRITERS)
            self.spawn(self.read, f"{route}-r", route, READERS)
        for node in self.nodes:
            self.spawn(self.probe, node.name, node, 1)

    def spawn(self, work, name, subject, count):
        for number in range(count):
            thread = threading.Thread(target=work, args=(f"{name}{number}", subject), daemon=True)
            thread.start()
            self.threads.append(thread)

    def stop(self):
        self.ends.set()
        for thread in self.threads:
            thread.join(20)

    def record(self, **record):
        with self.lock:
            self.records.append(record)
            self.file.write(json.dumps(record) + "\n")

    def write(self, name, own_route):
        client, number, chance = Client(self.routes), 0, random.Random(name)
        while not self.ends.is_set():
            number += 1
            key = f"{name}-{number}"
            route, stored = own_route, False
            while not self.ends.is_set() and not (stored and chance.random() < 0.95):
                stored = self.post(client, route, key, f"text of {key}") or stored
                # A repeat may come to another board.
                route = chance.choice(list(self.routes))
                self.ends.wait(0.03)

    def post(self, client, route, key, text):
        start = now()
        status, body = client.request(route, "POST", "/messages", json.dumps({"message": text}), {
            "Content-Type": "application/json", "Idempotency-Key": key})
        number = json.loads(body)["id"] if status in history.STORED else None
        self.record(kind="post", key=key, text=text, route=route, start=start, end=now(), status=status, id=number)
        if number:
            self.acknowledged.append((number, text))
        return number is not None

    def read(self, name, route):
        client, chance = Client(self.routes), random.Random(name)
        while not self.ends.is_set():
            chance.choice([self.read_list, self.read_page, self.read_one])(client, route, chance)
            self.ends.wait(0.03)

    def read_list(self, client, route, chance):
        start = now()
        status, body = client.request(route, "GET", f"/messages?limit={chance.choice([20, 50, 200])}")
        answer = json.loads(body) if status == 200 else {"messages": [], "next": None}
        rows = [[row["id"], row["message"]] for row in answer["messages"]]
        self.record(kind="read", route=route, start=start, end=now(), status=status, rows=rows, to_the_end=answer["next"] is None)

    def read_page(self, client, route, _):
        start = now()
        status, body = client.request(route, "GET", "/", None, {"Accept": "text/html"})
        rows = re.findall(r'<li id="m(\d+)"><p dir="auto">([^<]*)</p>', body) if status == 200 else []
        rows = [[int(number), text] for number, text in rows]
        self.record(kind="read", route=route, start=start, end=now(), status=status, rows=rows, to_the_end=len(rows) < 50)

    def read_one(self, client, route, chance):
        if not self.acknowledged:
            return
        # The newest ones are those that a node may not have applied yet.
        number, _ = self.acknowledged[-chance.randint(1, min(20, len(self.acknowledged)))]
        start = now()
        status, body = client.request(route, "GET", f"/messages/{number}", None, {"Accept": "application/json"})
        text = json.loads(body)["message"] if status == 200 else None
        self.record(kind="point", route=route, start=start, end=now(), status=status, id=number, text=text)

    def probe(self, _, node):
        """Commits on a node without a board: what the cluster itself can do."""
        sql = Sql(node.socket)
        while not self.ends.is_set():
            rows = sql.rows(f"UPDATE probe.beats SET beat = beat + 1 WHERE node = {node.number}; SELECT 1", 3)
            if rows == [["1"]]:
                self.commits[node.name].append(now())
            else:
                sql.close()
            self.ends.wait(0.05)
        sql.close()

    def has_refused(self, since):
        with self.lock:
            return any(record["kind"] == "post" and record["status"] == 503 and record["start"] > since for record in self.records[-500:])

    def moments(self, route, kinds, since):
        """When requests of these kinds have succeeded."""
        with self.lock:
            # From the end: a fault looks at the last seconds of a long history.
            recent = []
            for record in reversed(self.records):
                if record["end"] < since - 60:
                    break
                recent.append(record)
        return [r["end"] for r in recent if r["kind"] in kinds and r["end"] > since and r["route"] == route and r["status"] in (200, 201)]

    def flows(self, routes):
        """Waits until writers and readers succeed on all routes, many times from now on."""
        begin = now()
        for kinds in (("post",), ("read", "point")):
            for route in routes:
                must(lambda: len(self.moments(route, kinds, begin)) >= 40, f"{kinds[0]}s on {route} succeed", 40)


class Client:
    """Connections to each route, kept open."""

    def __init__(self, routes):
        self.routes = routes
        self.open = {}

    def request(self, route, method, path, body=None, headers=None):
        """Status and body; without an answer, None."""
        try:
            if route not in self.open:
                self.open[route] = http.client.HTTPConnection(HUB, self.routes[route], timeout=DB_TIMEOUT + 3)
            self.open[route].request(method, path, body, headers or {})
            answer = self.open[route].getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self.open.pop(route).close()
            return None, ""
