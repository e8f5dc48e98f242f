"""What people have for PgBouncer, against the console: Debian's prometheus-pgbouncer-exporter and check_postgres, as they
are, on a forebay.ini and on a pgbouncer.ini; and the columns of PgBouncer's SHOW commands beside PgBouncer's own."""
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psycopg2

from report import PASSWORD, POOLED, PORT, USER, Report, same

WATCHER, WATCHER_PASSWORD = "watcher", "watcher-secret"
EXPORTER, CHECK, PGBOUNCER = "prometheus-pgbouncer-exporter", "check_postgres", "/usr/sbin/pgbouncer"
SECONDS = 10  # that one program may take
FIGURES = ("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait")

# Where ours differ from those of the PgBouncer that is installed, and why.
WIDER = {("MEM", name) for name in ("size", "used", "free", "memtotal")}  # a heap may be larger than four bytes tell
SHOWS = ("POOLS", "CLIENTS", "SERVERS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "LISTS", "DATABASES", "USERS",
         "CONFIG", "MEM", "VERSION")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Started:
    """A program that ends with the block, and what it said."""

    def __init__(self, argv, **more):
        self.said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said, **more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said.close()

    def answer(self, ask):
        """What ask() returns once it raises no OSError."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return ask()
            except (OSError, psycopg2.OperationalError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.said.seek(0)
                    raise AssertionError(f"{self.process.args[0]}: {error}: {self.said.read()[-500:]}") from error
                time.sleep(0.05)


def console(port, user=WATCHER, password=WATCHER_PASSWORD):
    connection = psycopg2.connect(host="127.0.0.1", port=port, user=user, password=password, dbname="pgbouncer",
                                  connect_timeout=SECONDS)
    connection.set_session(autocommit=True)
    return connection


def environment():
    return {**os.environ, "PGPASSWORD": WATCHER_PASSWORD}


def exporter(port, database):
    """Its metrics, with a client in the pool that holds a connection."""
    at = free_port()
    argv = [EXPORTER, f"--port={at}", "--host=127.0.0.1", f"--pgbouncer-port={port}", f"--pgbouncer-user={WATCHER}",
            "--pgbouncer-host=127.0.0.1"]

    def scrape():
        with urllib.request.urlopen(f"http://127.0.0.1:{at}/metrics", timeout=SECONDS) as answer:
            return answer.read().decode()

    with Started(argv, env=environment()) as started:
        text = started.answer(scrape)
    for name in ("pgbouncer_active_clients", "pgbouncer_waiting_clients"):
        assert re.search(rf'^{name}{{database="{database}",user="{USER}"}} \d', text, re.M), f"no {name}: {text[-1500:]}"
    for name in ("requests_total", "received_bytes_total", "sent_bytes_total", "query_microseconds_total"):
        found = re.search(rf'^pgbouncer_{name}{{database="{database}"}} ([\d.e+]+)', text, re.M)
        assert found, f"no {name}: {text[-1500:]}"
        assert float(found.group(1)) > 0, f"{name} is 0"
    # by the name that the database has there, as PgBouncer's column says
    found = re.search(rf'^pgbouncer_pool_size{{database="{POOLED}"}} ([\d.]+)', text, re.M)
    assert found and float(found.group(1)) > 0, f"no pool_size: {text[-1500:]}"
    found = re.search(r"^pgbouncer_used_clients ([\d.]+)", text, re.M)
    assert found and float(found.group(1)) > 0, "no used_clients"


def check(port, action, *more):
    done = subprocess.run([CHECK, f"--action={action}", "--host=127.0.0.1", f"--port={port}", f"--dbuser={WATCHER}", *more],
                          capture_output=True, text=True, check=False, timeout=SECONDS, env=environment())
    return done.returncode, done.stdout + done.stderr


def check_postgres(port, database, figures=FIGURES):
    """The actions it has for PgBouncer, well and alarmed."""
    def well(figure):
        return (figure, *check(port, f"pgb_pool_{figure}", "--warning=1000", "--critical=2000"))

    with ThreadPoolExecutor(4) as several:
        answers = list(several.map(well, figures))
    for figure, code, said in answers:
        assert code == 0 and " OK: " in said and f"{database}=" in said, f"{figure}: {code}, {said}"
    code, said = check(port, "pgb_pool_cl_active", "--critical=1", f"--include={database}")
    assert code == 2 and "CRITICAL: " in said and f"{database}=1" in said, f"cl_active: {code}, {said}"
    code, said = check(port, "pgbouncer_backends")
    assert code == 0 and " OK: " in said and re.search(r"\d+ of \d+ connections", said), f"backends: {code}, {said}"
    code, said = check(port, "pgbouncer_backends", "--critical=1", "--warning=1")
    assert code == 2, f"backends: {code}, {said}"
    code, said = check(port, "pgbouncer_checksum", "--critical=0")
    digest = re.search(r"[0-9a-f]{32}", said)
    assert code == 3 and digest, f"checksum: {code}, {said}"
    code, said = check(port, "pgbouncer_checksum", f"--critical={digest.group(0)}")
    assert code == 0, f"checksum: {code}, {said}"


def holding(port, database):
    """A client in a transaction, so that there is something to see."""
    connection = psycopg2.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname=database,
                                  connect_timeout=SECONDS)
    connection.autocommit = True
    connection.cursor().execute("select 1")
    connection.autocommit = False
    connection.cursor().execute("select 1")
    return connection


def through_pgbouncer_ini(folder, server_port, then):
    """`then` on a Forebay that reads a pgbouncer.ini."""
    port = free_port()
    with open(f"{folder}/users.txt", "w", encoding="ascii") as users:
        users.write(f'"{USER}" "{PASSWORD}"\n"{WATCHER}" "{WATCHER_PASSWORD}"\n')
    with open(f"{folder}/pgbouncer.ini", "w", encoding="ascii") as ini:
        ini.write(f"""[databases]
shop = host=127.0.0.1 port={server_port} dbname={POOLED}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users.txt
pool_mode = transaction
server_tls_sslmode = require
stats_users = {WATCHER}
max_client_conn = 200
""")
    with Started([os.environ["TEST_FOREBAY"], "-c", f"{folder}/pgbouncer.ini"]) as started:
        client = started.answer(lambda: holding(port, "shop"))
        then(port, "shop")
        client.close()


def columns(connection, what):
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {what}")
        return [(column.name, column.type_code) for column in cursor.description]


def beside_pgbouncer(folder):
    """Each column of the real one is there, under its name, in its type and in its order."""
    port = free_port()
    with open(f"{folder}/real.ini", "w", encoding="ascii") as ini:
        ini.write(f"""[databases]
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = {WATCHER}
""")
    identity = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with Started([PGBOUNCER, f"{folder}/real.ini"], cwd="/", **identity) as started:
        real = started.answer(lambda: console(port))
        ours = console(PORT)
        for show in SHOWS:
            theirs, here = columns(real, show), columns(ours, show)
            names = [name for name, _ in here]
            for name, kind in theirs:
                assert name in names, f"SHOW {show} has no column {name}, only {names}"
                if (show, name) not in WIDER:
                    same(dict(here)[name], kind, f"the type of {name} in SHOW {show}")
            common = [name for name, _ in theirs if name not in OLDER]
            same([name for name in names if name in common], common, f"the order of SHOW {show}")
        real.close()
        ours.close()


# Names that later versions of PgBouncer have given up; ours stand behind all others.
OLDER = {"reserve_pool"}


def main():
    report = Report()
    client = holding(PORT, POOLED)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server_port = int(os.environ["TEST_SERVER_PORT"])
        for step, run in (("exporter", lambda: exporter(PORT, POOLED)),
                          ("check_postgres", lambda: check_postgres(PORT, POOLED)),
                          ("exporter_pgbouncer_ini", lambda: through_pgbouncer_ini(folder, server_port, exporter)),
                          ("check_postgres_pgbouncer_ini",
                           lambda: through_pgbouncer_ini(folder, server_port, lambda *at: check_postgres(*at, FIGURES[:1]))),
                          ("columns", lambda: beside_pgbouncer(folder))):
            try:
                run()
                report.ok(step)
            except Exception as error:  # whatever goes wrong is the step's
                report.wrong(step, error)
    client.close()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
