"""PostgreSQL for the drivers' runner: the server, Forebay's configuration in front of it, and what each driver needs."""
import glob
import os
import shutil
import signal

from processes import HERE, Failure, Missing, Server, command, end, python_with, write

STEPS = ("connect", "refusals", "prepared", "transactions", "errors", "large_values", "copy", "large_object",
         "cancel", "listen", "pipeline", "settings", "reset")
TOOLS = ("exporter", "check_postgres", "exporter_pgbouncer_ini", "check_postgres_pgbouncer_ini", "columns")
JDBC = "/usr/share/java/postgresql.jar"


class Postgres(Server):
    def __init__(self, scratch):
        super().__init__(scratch, "postgresql")
        self.data = f"{scratch}/pg"
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        self.bin = os.environ.get("PGBIN") or (os.path.dirname(found[-1]) if found else "")
        if not self.bin and shutil.which("initdb"):
            self.bin = os.path.dirname(shutil.which("initdb"))
        if not self.bin:
            raise Failure("PostgreSQL's initdb is not in /usr/lib/postgresql; say where by PGBIN")

    def start(self):
        self.folder(self.data)
        command((f"{self.bin}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8",
                 "--locale=C"), "initdb", cwd="/", **self.identity)
        self.copy_key(self.data)
        write(f"{self.data}/postgresql.conf", f"""listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = '{self.data}'
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 32MB
max_connections = 60
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
log_connections = on
log_line_prefix = '%m [%p] %u@%d '
""")
        write(f"{self.data}/pg_hba.conf",
              "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        self.launch((f"{self.bin}/postgres", "-D", self.data), lambda: self.sql("postgres", "select 1"), "PostgreSQL")
        self.sql("postgres", "create role app login password 'app-secret'", "create database app owner app",
                 "create database app_session owner app")

    def sql(self, database, *statements):
        argv = [f"{self.bin}/psql", "-XAqt", "-h", self.data, "-p", str(self.port), "-U", "postgres", "-d", database,
                "-v", "ON_ERROR_STOP=1"]
        for statement in statements:
            argv += ["-c", statement]
        return command(argv, "psql", cwd="/").strip()

    def connections_opened(self):
        """Server connections to the transaction pool's database since the start, by PostgreSQL's log."""
        with open(self.log, errors="replace") as log:
            return sum("connection authorized: user=app database=app " in line for line in log)

    def stop(self):
        if self.process:
            # SIGINT is PostgreSQL's fast shutdown; its children are in sessions of their own.
            if end(self.process, signal.SIGINT, 15) is None:
                print("PostgreSQL had to be killed", flush=True)

    def sections(self, port):
        """Fewer statements than the scenario's clients prepare: some are put out and come back."""
        pool = f"""protocol = postgresql
hosts = localhost:{self.port}
tls_mode = verify-full
tls_ca_file = {self.scratch}/ca.crt
acquire_timeout = 10s
min_idle = 0
"""
        return f"""stats_users = watcher

[listener:pg]
protocol = postgresql
listen = 127.0.0.1:{port}
auth = scram-sha-256
tls_mode = prefer
tls_cert_file = {self.scratch}/server.crt
tls_key_file = {self.scratch}/server.key

[pool:app]
{pool}pool_mode = transaction
max_size = 2
max_prepared_statements = 20

[pool:app_session]
{pool}pool_mode = session
max_size = 4

[user:app]
password = app-secret

[user:watcher]
password = watcher-secret
"""


def prepare_tools(_build):
    for program in ("prometheus-pgbouncer-exporter", "check_postgres", "/usr/sbin/pgbouncer"):
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")
    return [python_with("psycopg2", "python3-psycopg2"), f"{HERE}/scenario_tools.py"]


# What each driver needs; returns the command that runs its scenario.

def prepare_python(name):
    def prepare(_build):
        return [python_with(name, f"python3-{name}"), f"{HERE}/scenario_{name}.py"]
    return prepare


def prepare_libpq(build):
    compiler = os.environ.get("CC", "cc").split()
    try:
        flags = command(("pkg-config", "--cflags", "--libs", "libpq"), "pkg-config libpq").split()
    except Failure as error:
        raise Missing(str(error)) from error
    command([*compiler, "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-o", f"{build}/scenario_libpq",
             f"{HERE}/scenario_libpq.c", *flags, "-lpthread"], "compiling the libpq scenario")
    return [f"{build}/scenario_libpq"]


def prepare_node(build):
    for program in ("node", "npm"):
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")
    folder = f"{build}/node"
    os.mkdir(folder)
    for name in ("package.json", "package-lock.json", "scenario.js"):
        shutil.copy(f"{HERE}/node/{name}", folder)
    command(("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"), "npm ci", 120, cwd=folder)
    # node-postgres's own cancel() uses what it calls deprecated.
    return ["node", "--no-deprecation", f"{folder}/scenario.js"]


def prepare_pgjdbc(build):
    for program in ("javac", "java"):
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")
    if not os.path.exists(JDBC):
        raise Missing(f"{JDBC} is not there (libpostgresql-jdbc-java)")
    command(("javac", "-Xlint:all", "-cp", JDBC, "-d", build, f"{HERE}/Scenario.java"), "javac")
    return ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx128m", "-cp", f"{JDBC}:{build}", "Scenario"]


DRIVERS = {"psycopg": (prepare_python("psycopg"), STEPS), "asyncpg": (prepare_python("asyncpg"), STEPS),
           "libpq": (prepare_libpq, STEPS), "node": (prepare_node, STEPS), "pgjdbc": (prepare_pgjdbc, STEPS),
           "tools": (prepare_tools, TOOLS)}
