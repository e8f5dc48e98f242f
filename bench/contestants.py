"""What the load is sent through: each makes its configuration, starts and stops."""

import base64
import hashlib
import hmac
import os
import re
import shlex
import signal
import subprocess

from processes import Failure, descendants, free_port, wait_for_port

SECRET = "bench-secret"


def stored_secret():
    """The password as PostgreSQL stores it, so that no proxy has to derive the keys at each login."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", SECRET.encode(), salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    encoded = [base64.b64encode(b).decode() for b in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return "SCRAM-SHA-256$4096:%s$%s:%s" % tuple(encoded)


def pool_names(row):
    return [f"bench{i}" for i in range(row.pools)] if row.pools else ["bench"]


def pool_size(row, name):
    """Those that are there to be many are small: 1,000 pools of 20 would want more descriptors than most machines give."""
    return row.servers if name in ("bench", "bench0") else min(row.servers, 2)


class Contestant:
    """Something to send load through. start() gives the port."""

    name = "?"
    is_proxy = True
    is_pooler = True
    is_ours = False
    descriptors = 1  # for each client, at most, of one process
    under = ()  # the command of the tool that it is to run under

    def __init__(self, bench):
        self.bench = bench
        self.processes = []
        self.log = None

    def can(self, row):
        """None, or why it cannot do that; for what has no TLS, no logins and no pools of its own, this is why."""
        if not self.is_pooler:
            if row.pools:
                return "it knows no pools"
            if row.scram:
                return "it only passes the login on"
            if row.tls:
                return ("in TCP mode it cannot speak PostgreSQL's SSLRequest, on either side: it could only pass on what "
                        "others have encrypted")
        return None

    def version(self):
        return ""

    def pids(self):
        return [p.pid for p in self.processes]

    def backend_host(self, row):
        return self.bench.dir if row.unix else "127.0.0.1"

    def file(self, name, text):
        path = os.path.join(self.bench.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o644)
        return path

    def spawn(self, command, port, row, **more):
        self.log = os.path.join(self.bench.dir, self.name + ".log")
        cpus = self.bench.all_cpus if row.spread else self.bench.proxy_cpus
        process = self.bench.processes.start([*self.under, *command], cpus=cpus, log=self.log, **more)
        self.processes.append(process)
        wait_for_port(port, process, self.log, len(self.processes))

    def stop(self):
        for process in self.processes:
            self.bench.processes.end(process)
        self.processes = []


class Direct(Contestant):
    name = "direct"
    is_proxy = False
    is_pooler = False

    def can(self, row):
        return "the stub lets everybody in" if row.scram else "the load comes by TCP" if row.unix else None

    def start(self, row, backend):
        return backend

    def pids(self):
        return []


class Forebay(Contestant):
    name = "forebay"
    is_ours = True

    def __init__(self, bench, binary):
        super().__init__(bench)
        self.binary = binary

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.strip()

    def start(self, row, backend):
        port = free_port()
        protocol = "mysql" if row.mysql else "postgresql"
        pools = "".join(f"""
[pool:{name}]
protocol = {protocol}
hosts = {self.backend_host(row)}:{backend}
max_size = {pool_size(row, name)}
{"min_idle = 0" if row.pools else ""}
monitor_interval = 0
tls_mode = {"require" if row.tls else "disable"}
""" for name in pool_names(row))
        self.spawn([self.binary, "-c", self.file("forebay.ini", f"""
[forebay]
workers = {row.workers}
max_clients = {row.total_clients() + 100}
log_level = warning
log_connections = false
metrics_listen =

[listener:bench]
protocol = {protocol}
listen = 127.0.0.1:{port}
auth = {"scram-sha-256" if row.scram else "trust"}
tls_mode = {"require" if row.tls else "disable"}
""" + (f"""tls_cert_file = {self.bench.dir}/cert.pem
tls_key_file = {self.bench.dir}/key.pem
""" if row.tls else "") + pools + ("" if row.mysql else f"""
[user:bench]
password = {self.bench.secret}
"""))], port, row)
        return port


class PgBouncer(Contestant):
    name = "pgbouncer"

    def __init__(self, bench, binary):
        super().__init__(bench)
        self.binary = binary
        self.number = tuple(int(n) for n in re.findall(r"\d+", self.version())[:2])

    def version(self):
        text = subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout
        return text.split("\n")[0].strip()

    def can(self, row):
        if row.mysql:
            return "it speaks PostgreSQL's protocol only"
        if row.mode in ("prepared", "pipelined") and self.number < (1, 21):
            return "it manages no prepared statements before 1.21"
        return None

    def start(self, row, backend):
        port = free_port()
        users = self.file("users.txt", f'"bench" "{self.bench.secret}"\n')
        databases = "\n".join(f"{name} = host={self.backend_host(row)} port={backend} dbname=bench "
                              f"pool_size={pool_size(row, name) // row.workers}" for name in pool_names(row))
        for i in range(row.workers):
            more = ""
            if row.mode in ("prepared", "pipelined"):
                more += "max_prepared_statements = 200\n"
            if row.tls:
                more += (f"client_tls_sslmode = require\nclient_tls_cert_file = {self.bench.dir}/cert.pem\n"
                         f"client_tls_key_file = {self.bench.dir}/key.pem\nserver_tls_sslmode = require\n")
            if row.buffer:
                more += f"pkt_buf = {row.buffer}\n"
            if row.workers > 1:
                more += "so_reuseport = 1\n"
            ini = self.file(f"pgbouncer{i}.ini", f"""
[databases]
{databases}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {"scram-sha-256" if row.scram else "trust"}
auth_file = {users}
pool_mode = transaction
max_client_conn = {row.total_clients() + 100}
log_connections = 0
log_disconnections = 0
log_stats = 0
{more}""")
            # Since 1.23 it waits at SIGTERM, and only SIGQUIT ends it at once.
            self.spawn([self.binary, ini], port, row, user="nobody" if os.geteuid() == 0 else None,
                       end_by=signal.SIGQUIT if self.number >= (1, 23) else signal.SIGTERM)
        return port


class HAProxy(Contestant):
    name = "haproxy"
    is_pooler = False
    descriptors = 2

    def __init__(self, bench, binary):
        super().__init__(bench)
        self.binary = binary

    def version(self):
        return subprocess.run([self.binary, "-v"], capture_output=True, text=True).stdout.split("\n")[0].split(" 20")[0]

    def start(self, row, backend):
        port = free_port()
        address = f"unix@{self.bench.dir}/.s.PGSQL." if row.unix else "127.0.0.1:"
        self.spawn([self.binary, "-db", "-f", self.file("haproxy.cfg", f"""
global
    nbthread {row.workers}
    maxconn {row.total_clients() + 10}
{"    tune.bufsize %d" % row.buffer if row.buffer else ""}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{port}
    server backend {address}{backend}
""")], port, row)
        return port


class Peer(Contestant):
    """Any other proxy, as a command line."""

    descriptors = 2

    def __init__(self, bench, text):
        super().__init__(bench)
        self.name, _, self.command = text.partition("=")
        if not self.command:
            raise Failure(f"--peer {text}: wants NAME=COMMAND")

    def version(self):
        return self.command

    def can(self, row):
        return ("no configuration for TLS, SCRAM, Unix sockets or many pools is made"
                if row.tls or row.scram or row.unix or row.pools else None)

    def pids(self):
        return descendants(super().pids())

    def start(self, row, backend):
        port = free_port()
        words = {"port": port, "backend": backend, "dir": self.bench.dir, "clients": row.total_clients(),
                 "servers": row.servers, "workers": row.workers}
        self.spawn([word.format(**words) for word in shlex.split(self.command)], port, row, is_tree=True)
        return port
