"""MariaDB for the drivers' runner: the server, Forebay's configuration in front of it, and what each driver needs."""
import os
import shutil
import signal

from processes import HERE, Missing, Server, command, end, python_with

STEPS = ("connect", "refusals", "prepared", "transactions", "errors", "large_values", "schema", "settings", "variables",
         "temporary", "insert_id", "found_rows", "warnings", "locks", "procedures", "several", "local_infile", "kill", "reset")
SYSBENCH_STEPS = ("point_select", "read_only", "read_write", "point_select_prepared", "read_only_prepared",
                  "read_write_prepared")
CONNECTOR_J = "/usr/share/java/mariadb-java-client.jar"


def program(name):
    """The path of one of MariaDB's programs; Missing without it."""
    folder = os.environ.get("MYSQL_BIN")
    found = f"{folder}/{name}" if folder else shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found or not os.access(found, os.X_OK):
        raise Missing(f"{name} is not installed (mariadb-server-core, mariadb-client-core); say where by MYSQL_BIN")
    return found


class MariaDB(Server):
    def __init__(self, scratch):
        super().__init__(scratch, "mariadb")
        self.home = f"{scratch}/maria"

    def start(self):
        small = ("--innodb-data-file-path=ibdata1:5M:autoextend", "--innodb-log-file-size=4M",
                 "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync")
        self.folder(self.home)
        self.folder(f"{self.home}/tmp")
        self.copy_key(self.home)
        common = ("--no-defaults", f"--datadir={self.home}/data", f"--tmpdir={self.home}/tmp", *small)
        command((program("mariadb-install-db"), *common, "--skip-test-db", "--auth-root-authentication-method=normal"),
                "mariadb-install-db", cwd="/", **self.identity)
        self.launch((program("mariadbd"), *common, f"--socket={self.home}/s", f"--pid-file={self.home}/pid",
                     f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve", "--performance-schema=OFF",
                     "--max-connections=60", "--local-infile=ON", "--max-allowed-packet=64M", "--innodb-fast-shutdown=2",
                     f"--ssl-cert={self.home}/server.crt", f"--ssl-key={self.home}/server.key"),
                    lambda: self.sql("select 1"), "MariaDB")
        self.sql("create database app; create database other; create user app identified by 'app-secret'; "
                 "grant all on app.* to app; grant all on other.* to app")

    def sql(self, statements):
        return command((program("mariadb"), "--no-defaults", "-uroot", f"--socket={self.home}/s", "-NBe", statements),
                       "mariadb", cwd="/").strip()

    def connections_opened(self):
        """Connections since the start, those of sql() too."""
        return int(self.sql("show global status like 'Connections'").split()[1])

    def stop(self):
        if self.process and end(self.process, signal.SIGTERM, 15) is None:
            print("MariaDB had to be killed", flush=True)

    def sections(self, port):
        return f"""[listener:my]
protocol = mysql
listen = 127.0.0.1:{port}
auth = mysql_native_password
tls_mode = prefer
tls_cert_file = {self.scratch}/server.crt
tls_key_file = {self.scratch}/server.key
default_pool = app

[pool:app]
protocol = mysql
hosts = localhost:{self.port}
tls_mode = verify-full
tls_ca_file = {self.scratch}/ca.crt
acquire_timeout = 10s
min_idle = 0
pool_mode = transaction
max_size = 3
max_prepared_statements = 20
monitor_user = app
monitor_password = app-secret

[user:app]
password = app-secret
"""


# What each driver needs; returns the command that runs its scenario.

def prepare_dbapi(module, package):
    def prepare(_build):
        return [python_with(module, package), f"{HERE}/scenario_dbapi.py", module]
    return prepare


def prepare_mariadb(_build):
    return [shutil.which("python3"), f"{HERE}/scenario_mariadb.py", program("mariadb")]


def prepare_mysql2(build):
    for name in ("node", "npm"):
        if not shutil.which(name):
            raise Missing(f"{name} is not installed")
    folder = f"{build}/mysql2"
    os.mkdir(folder)
    for name in ("package.json", "package-lock.json", "scenario.js"):
        shutil.copy(f"{HERE}/mysql2/{name}", folder)
    command(("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"), "npm ci", 120, cwd=folder)
    return ["node", f"{folder}/scenario.js"]


def prepare_connector_j(build):
    for name in ("javac", "java"):
        if not shutil.which(name):
            raise Missing(f"{name} is not installed")
    if not os.path.exists(CONNECTOR_J):
        raise Missing(f"{CONNECTOR_J} is not there (libmariadb-java)")
    command(("javac", "-Xlint:all", "-cp", CONNECTOR_J, "-d", build, f"{HERE}/MariaScenario.java"), "javac")
    return ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx128m", "-cp", f"{CONNECTOR_J}:{build}",
            "MariaScenario"]


def prepare_sysbench(_build):
    if not shutil.which("sysbench"):
        raise Missing("sysbench is not installed")
    return [shutil.which("python3"), f"{HERE}/scenario_sysbench.py"]


DRIVERS = {"mariadb": (prepare_mariadb, STEPS), "pymysql": (prepare_dbapi("pymysql", "python3-pymysql"), STEPS),
           "mysqlclient": (prepare_dbapi("MySQLdb", "python3-mysqldb"), STEPS), "mysql2": (prepare_mysql2, STEPS),
           "connectorj": (prepare_connector_j, STEPS), "sysbench": (prepare_sysbench, SYSBENCH_STEPS)}
