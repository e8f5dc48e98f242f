"""What the drivers' runner shares between databases: processes that end with it, certificates, and Forebay itself."""
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
PYTHON = "/usr/bin/python3"
REPORTS = ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:", "invariant")


class Failure(Exception):
    pass


class Missing(Exception):
    pass


class Count:
    passed = 0
    failed = 0

    def add(self, ok, what):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        print(("passed: " if ok else "FAILED: ") + what, flush=True)


def free_port():
    for _ in range(1000):
        port = random.randrange(10000, 30000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failure("no free port")


def write(path, text, mode=0o644):
    with open(path, "w") as out:
        out.write(text)
    os.chmod(path, mode)


def tail(path, lines=40):
    try:
        with open(path, errors="replace") as text:
            return "".join(text.readlines()[-lines:])
    except OSError as error:
        return str(error)


class Signals:
    """A signal ends the run where it is, but not between the start of a process and its being known to be there."""
    starting = False
    came = None

    @classmethod
    def handle(cls, signum, _frame):
        cls.came = signum
        if not cls.starting:
            cls.leave()

    @classmethod
    def leave(cls):
        # A second signal must not break off the cleaning.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + cls.came)


def spawn(keep, argv, **more):
    """Starts a process in a session of its own and hands it to keep()."""
    Signals.starting = True
    try:
        keep(subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **more))
    finally:
        Signals.starting = False
        if Signals.came:
            Signals.leave()


def command(argv, what, seconds=60, **more):
    """Runs a program to its end and returns what it says."""
    started = []
    try:
        spawn(started.append, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
              **more)
        said, _ = started[0].communicate(timeout=seconds)
    except FileNotFoundError as error:
        raise Missing(str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{what} took longer than {seconds} s") from error
    finally:
        if started and started[0].returncode is None:
            end(started[0], signal.SIGKILL)
    if started[0].returncode != 0:
        raise Failure(f"{what} ended with {started[0].returncode}:\n{said}")
    return said


def end(process, signum=signal.SIGTERM, seconds=10):
    """Ends a process and its group; returns its exit code, or None where it had to be killed."""
    if process.poll() is None:
        process.send_signal(signum)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return code


def make_certificates(scratch):
    def openssl(*argv):
        command(("openssl",) + argv, "openssl", cwd=scratch)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for ca in ("ca", "other-ca"):
        openssl("req", "-x509", *key, "-days", "30", "-subj", f"/CN=Forebay drivers {ca}", "-keyout", f"{ca}.key",
                "-out", f"{ca}.crt")
    write(f"{scratch}/server.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("req", *key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days",
            "30", "-extfile", "server.ext", "-out", "server.crt")


class Server:
    """What databases have in common: a folder and a log in the scratch folder, and the user they run as."""

    def __init__(self, scratch, name):
        self.scratch = scratch
        self.log = f"{scratch}/{name}.log"
        self.port = free_port()
        self.process = None
        self.user = None
        if os.geteuid() == 0:
            try:
                self.user = pwd.getpwnam("postgres")
            except KeyError as error:
                raise Failure("as root this needs a user \"postgres\" to run databases as") from error
        self.identity = {}
        if self.user:
            self.identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def keep(self, process):
        self.process = process

    def own(self, path):
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def folder(self, path):
        os.mkdir(path, 0o700)
        self.own(path)

    def copy_key(self, folder):
        for name in ("server.crt", "server.key"):
            shutil.copy(f"{self.scratch}/{name}", f"{folder}/{name}")
            os.chmod(f"{folder}/{name}", 0o600)
            self.own(f"{folder}/{name}")

    def launch(self, argv, ready, name):
        """Starts it and waits until ready() raises no Failure."""
        with open(self.log, "wb") as log:
            spawn(self.keep, argv, stdout=log, stderr=log, cwd="/", **self.identity)
        deadline = time.monotonic() + 30
        while True:
            try:
                return ready()
            except Failure as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"{name} does not start:\n{tail(self.log)}\n{error}") from error
                time.sleep(0.1)


def python_with(module, package):
    """The Python that has the system's modules; Missing without this one."""
    try:
        command((PYTHON, "-c", f"import {module}"), package)
    except Failure as error:
        raise Missing(f"{PYTHON} has no module {module} ({package})") from error
    return PYTHON


class Forebay:
    def __init__(self, scratch, name, workers, sections):
        """`sections` gives for a port what follows [forebay] in its configuration."""
        self.scratch, self.workers, self.sections = scratch, workers, sections
        self.port = free_port()
        self.name = f"forebay-{name}-{workers}"
        self.log = f"{scratch}/{self.name}.log"
        self.process = None

    def keep(self, process):
        self.process = process

    def start(self):
        binary = os.path.realpath(os.environ.get("FOREBAY", "./forebay"))
        if not os.access(binary, os.X_OK):
            raise Failure(f"no Forebay to test at {binary}; say where by FOREBAY")
        ini = f"{self.scratch}/{self.name}.ini"
        write(ini, f"""[forebay]
workers = {self.workers}
metrics_listen =
shutdown_timeout = 3s

{self.sections(self.port)}""", 0o600)
        environment = dict(os.environ)
        environment.setdefault("ASAN_OPTIONS", "exitcode=99:quarantine_size_mb=8")
        environment.setdefault("TSAN_OPTIONS", "exitcode=98")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        with open(self.log, "wb") as log:
            spawn(self.keep, (binary, "-c", ini), stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 20
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"Forebay does not listen:\n{tail(self.log)}")
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)

    def stop(self, count=None):
        if not self.process:
            return
        died = self.process.poll()
        code = end(self.process, seconds=15)
        self.process = None
        if count is None:
            return
        with open(self.log, errors="replace") as text:
            log = text.read()
        report = next((r for r in REPORTS if r in log), None)
        ok = died is None and code == 0 and report is None
        count.add(ok, f"{self.name} lives through it and ends as asked")
        if not ok:
            how = f"died with {died}" if died is not None else f"ended with {code}"
            print(f"Forebay {how}{', reports ' + report if report else ''}:\n{tail(self.log)}", flush=True)
