"""Database nodes, boards and a proxy, each in a network namespace or process of its own, that a test may kill, pause and cut off.

Nothing of it is visible outside, and all of it ends with the test, whichever way it ends: `enter` continues in private
namespaces for networks, mounts and processes. Sends no request to a board.
"""
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = TARGET / "release/twotier"
CLUSTER = ROOT / "deploy/cluster"
# The bridge: boards, proxy and clients are here, the nodes at .11, .12, .13.
HUB = "10.99.0.1"
WAIT = 60
# Seconds, longer than the cluster needs to go on without a node: a healthy node that waits must not count as broken.
DB_TIMEOUT = 4
NETWORK = f"""
mount -t tmpfs none /run
ip link set lo up
ip link add hub type bridge
ip address add {HUB}/24 dev hub
ip link set hub up
for node in 11 12 13; do
    ip netns add node$node
    ip link add to$node type veth peer name eth0 netns node$node
    ip link set to$node master hub up
    ip -n node$node link set lo up
    ip -n node$node address add 10.99.0.$node/24 dev eth0
    ip -n node$node link set eth0 up
    ip netns exec node$node iptables -w -A INPUT -s 10.255.255.255 -j DROP
done
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, text=True, capture_output=True, **options).stdout


def poll(condition, limit=WAIT, pause=0.02):
    """Waits until the condition holds, and returns what it returned; nothing after the limit."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(pause)
    return None


def must(condition, what, limit=WAIT):
    result = poll(condition, limit)
    if not result:
        raise AssertionError(f"waited {limit} s in vain: {what}")
    return result


def enter():
    """Continues as process 1 of private namespaces. An ordinary user becomes root in a namespace of users."""
    os.environ["PATH"] += ":/usr/sbin:/sbin:/usr/local/sbin"
    for program, package in {"ip": "iproute2", "iptables": "iptables", "unshare": "util-linux", "mariadbd": "mariadb-server",
                             "mariadb-backup": "mariadb-backup", "socat": "socat", "haproxy": "haproxy"}.items():
        if not shutil.which(program):
            sys.exit(f"error: {program} is not installed: run 'sudo apt-get install {package}'.")
    if not Path("/usr/lib/galera/libgalera_smm.so").exists():
        sys.exit("error: /usr/lib/galera/libgalera_smm.so is missing: run 'sudo apt-get install galera-4'.")
    if os.environ.get("TWOTIER_NAMESPACE") != "private":
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, *sys.argv]
        os.environ["TWOTIER_NAMESPACE"] = "private"
        os.execvp(command[0], command)
    made = subprocess.run(["sh", "-ec", NETWORK], text=True, capture_output=True)
    if made.returncode:
        sys.exit(f"error: this machine allows no private network namespaces: {made.stderr.strip()}")


class Sql:
    """A client that stays connected, by the socket file, which no partition cuts."""

    def __init__(self, socket):
        self.socket = socket
        self.process = None

    def rows(self, statement, limit=10):
        """The rows, or None when the server does not answer within the limit. The statement must have at least one row."""
        if self.process is None or self.process.poll() is not None:
            command = ["mariadb", "--no-defaults", "-uroot", "-S", self.socket, "-N", "-B", "-n", "-f", "--unbuffered", "twotier"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        try:
            self.process.stdin.write(f"{statement}; SELECT '--end--';\n".encode())
            answer, end = b"", time.monotonic() + limit
            while not answer.endswith(b"--end--\n"):
                left = end - time.monotonic()
                if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                    raise OSError
                piece = self.process.stdout.read(65536)
                if not piece:
                    raise OSError
                answer += piece
        except OSError:
            self.close()
            return None
        return [line.split("\t") for line in answer.decode().splitlines()[:-1]]

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Node:
    """A database server in its own network namespace."""

    def __init__(self, number, folder, options, settings):
        self.number = number
        self.name = f"node{number}"
        self.address = f"10.99.0.{10 + number}"
        self.namespace = f"node{10 + number}"
        self.folder = Path(folder, self.name)
        self.options = options
        self.settings = settings
        self.process = None
        self.runs = False
        # The path of a socket is limited, and /run is private.
        self.socket = f"/run/{self.name}.sock"
        self.sql = Sql(self.socket)
        self.folder.mkdir()

    def start(self, *arguments):
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        own = [f"datadir = {self.folder}/data", f"tmpdir = {self.folder}/tmp", f"socket = {self.socket}", f"log_error = {self.folder}/error.log",
               f"bind_address = {self.address}", "port = 3306", "user = root", "skip_name_resolve", "performance_schema = OFF",
               "innodb_buffer_pool_size = 64M", "innodb_log_file_size = 16M", "character_set_server = utf8mb4", *self.options(self)]
        # What comes later wins.
        (self.folder / "node.cnf").write_text("\n".join([f"!include {CLUSTER}/{self.settings}", "[sst]", "sst-log-archive = 0", "[mysqld]", *own, ""]))
        self.runs = True
        command = ["ip", "netns", "exec", self.namespace, "mariadbd", f"--defaults-file={self.folder}/node.cnf", *arguments]
        self.process = subprocess.Popen([*command, *self.recovered(command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def recovered(self, command):
        """Where a killed node stopped, as galera_recovery finds it: with it, a node gets what it missed, and not a full copy."""
        state = self.folder / "data/grastate.dat"
        if not state.exists() or not re.search(r"seqno: +-1$", state.read_text(), re.M):
            return []
        log = self.folder / "recover.log"
        log.unlink(missing_ok=True)
        run(*command, "--wsrep-recover", "--disable-log-error", f"--log-error={log}")
        found = re.findall(r"Recovered position:? *(\S+:\d+)", log.read_text())
        return [f"--wsrep-start-position={found[-1]}"] if found else []

    def kill(self):
        self.runs = False
        self.process.kill()
        self.process.wait()
        self.sql.close()

    def stop(self):
        self.runs = False
        self.process.terminate()
        self.process.wait()
        self.sql.close()

    def start_if_ended(self):
        """Does what a service manager does. Galera ends a node whose transfer of state failed."""
        if self.runs and self.process.poll() is not None:
            say(f"note: {self.name} has ended by itself, and is started again")
            self.start()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def forget(self):
        shutil.rmtree(self.folder / "data")

    def drop_from(self, *addresses):
        """Loses what these addresses send to this node from now on."""
        for address in addresses:
            run("ip", "netns", "exec", self.namespace, "iptables", "-w", "-I", "INPUT", "-s", address, "-j", "DROP")

    def hear_all(self):
        run("ip", "netns", "exec", self.namespace, "iptables", "-w", "-F", "INPUT")

    def status(self, limit=0.5):
        """The status variables of the cluster; empty when there is no answer."""
        rows = self.sql.rows("SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_state_comment')", limit)
        return {row[0]: row[1] for row in rows or [] if len(row) == 2}

    def in_cluster_of(self, size):
        status = self.status()
        return status.get("wsrep_ready") == "ON" and status.get("wsrep_cluster_status") == "Primary" and status.get("wsrep_cluster_size") == str(size)

    def messages(self):
        """All rows, as [id, text]."""
        found = run("mariadb", "--no-defaults", "-uroot", "-S", self.socket, "-N", "-B", "-e", "SET wsrep_sync_wait = 1; SELECT id, message FROM messages ORDER BY id", "twotier")
        return [[int(number), text] for number, text in (line.split("\t") for line in found.splitlines())]

    def last_errors(self):
        log = self.folder / "error.log"
        return "\n".join(line for line in log.read_text(errors="replace").splitlines()[-40:] if "ERROR" in line or "WARN" in line) if log.exists() else ""


class Galera:
    """Three nodes of one cluster, with the tuned settings that operators get."""

    def __init__(self, folder, template):
        names = ",".join(f"10.99.0.{10 + number}" for number in (1, 2, 3))

        def options(node):
            # The node that the boards write to is the last choice of a donor.
            donors = ",".join(f"node{number}" for number in (3, 2, 1) if number != node.number)
            return [f"wsrep_node_name = {node.name}", f"wsrep_node_address = {node.address}", "wsrep_cluster_name = twotier", "wsrep_sst_auth = mysql:copy",
                    f"wsrep_cluster_address = gcomm://{names}", f"wsrep_sst_donor = {donors}"]

        self.nodes = [Node(number, folder, options, "galera.cnf") for number in (1, 2, 3)]
        shutil.copytree(template, self.nodes[0].folder / "data")

    def start(self, *statements):
        """Starts the first node, runs the statements, and starts the others with copies of its data."""
        first = self.nodes[0]
        first.start("--wsrep-new-cluster")
        must(lambda: first.in_cluster_of(1), f"the first node is ready\n{first.last_errors()}")
        must(lambda: first.sql.rows("; ".join([*statements, "SELECT 1"]), 60), "the statements are executed", 1)
        first.stop()
        for node in self.nodes[1:]:
            shutil.copytree(first.folder / "data", node.folder / "data")
            for own in ("gvwstate.dat", "galera.cache"):
                (node.folder / "data" / own).unlink(missing_ok=True)
        first.start("--wsrep-new-cluster")
        must(lambda: first.in_cluster_of(1), "the first node is ready again")
        for node in self.nodes[1:]:
            node.start()
        must(self.is_complete, "three nodes in the cluster")

    def is_complete(self):
        for node in self.nodes:
            node.start_if_ended()
        return all(node.in_cluster_of(3) for node in self.nodes)

    def others(self, *without):
        return [node for node in self.nodes if node not in without]


class Pair:
    """A primary and its replica, which acknowledges each commit. Both start without taking writes."""

    def __init__(self, folder, template):
        self.nodes = [Node(number, folder, lambda node: [f"server_id = {node.number}"], "replica.cnf") for number in (1, 2)]
        for node in self.nodes:
            shutil.copytree(template, node.folder / "data")
        self.primary, self.replica = self.nodes
        # When a server took writes with a replica, after the last change.
        self.in_service = 0

    def start(self, *statements):
        for node in self.nodes:
            node.start()
            must(lambda: node.sql.rows("SELECT 1"), f"{node.name} answers")
        # The account of the replica is made before there is one that could acknowledge it.
        account = ["SET GLOBAL read_only = OFF", "CREATE USER replica@'%' IDENTIFIED BY 'copy'",
                   "GRANT REPLICATION SLAVE ON *.* TO replica@'%'", "SET GLOBAL rpl_semi_sync_master_enabled = ON"]
        must(lambda: self.primary.sql.rows("; ".join([*account, "SELECT 1"])), "the account is made", 1)
        self.follow_from(self.replica, "MASTER_USE_GTID = slave_pos")
        must(lambda: self.primary.sql.rows("; ".join([*statements, "SELECT 1"])), "the statements are executed", 1)

    def follow_from(self, node, how):
        """Makes a node the replica of the primary."""
        must(lambda: node.sql.rows(f"CHANGE MASTER TO MASTER_HOST = '{self.primary.address}', MASTER_USER = 'replica', MASTER_PASSWORD = 'copy', "
                                   f"MASTER_CONNECT_RETRY = 1, {how}; START SLAVE; SELECT 1"), "it follows", 1)
        self.wait_for_replica()

    def try_promote(self):
        """What the script of the operators says."""
        done = subprocess.run([CLUSTER / "promote", "--no-defaults", "-uroot", "-S", self.replica.socket], text=True, capture_output=True)
        return (done.stdout if done.returncode == 0 else done.stderr).strip()

    def promote(self):
        end = time.monotonic() + 10
        while "is the primary" not in (said := self.try_promote()):
            if time.monotonic() > end:
                raise AssertionError(f"not promoted: {said}")
        self.primary, self.replica = self.replica, self.primary

    def follow(self):
        """The old primary starts, read-only, and follows the new one."""
        self.replica.start()
        must(lambda: self.replica.sql.rows("SELECT 1"), f"{self.replica.name} answers")
        self.follow_from(self.replica, "MASTER_USE_GTID = slave_pos, MASTER_DEMOTE_TO_SLAVE = 1")

    def wait_for_replica(self):
        must(self.is_complete, f"the replica receives\n{self.replica_status()}")
        self.in_service = time.monotonic()

    def replica_status(self):
        return "\n".join(" ".join(row) for row in self.replica.sql.rows("SHOW SLAVE STATUS") or [])

    def is_complete(self):
        rows = self.primary.sql.rows("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'")
        return rows == [["Rpl_semi_sync_master_clients", "1"]]


class Board:
    """The release binary."""

    def __init__(self, number, folder, hosts):
        self.name = f"board{number}"
        self.port = 5000 + number
        self.log = Path(folder, self.name + ".log")
        self.settings = {"MYSQL_HOST": hosts, "MYSQL_USER": "twotier", "MYSQL_PASSWORD": "secret", "MYSQL_DB": "twotier", "BIND": HUB,
                         "PORT": str(self.port), "DB_WAIT": "0", "DB_TIMEOUT": f"{DB_TIMEOUT}s"}
        self.process = None

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([BINARY], env=self.settings, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Proxy:
    """HAProxy in front of the boards, with the settings that operators get."""

    port = 8000

    def __init__(self, boards):
        self.settings = {"BIND": f"{HUB}:{self.port}", **{f"BOARD_{at}": f"{HUB}:{board.port}" for at, board in enumerate(boards, 1)}}

    def start(self):
        self.process = subprocess.Popen(["haproxy", "-db", "-f", CLUSTER / "haproxy.cfg"], env={**os.environ, **self.settings},
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def prepare_template(folder):
    """The data of an empty server, for the first node."""
    run(ROOT / "scripts/database", "prepare", folder / "template")
    data = folder / "template/mysql"
    (data / "twotier").mkdir()
    (data / "twotier/db.opt").write_text("default-character-set=utf8mb4\ndefault-collation=utf8mb4_general_ci\n")
    return data
