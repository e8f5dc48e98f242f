"""Starting and ending processes, and what they use."""

import contextlib
import ctypes
import glob
import os
import resource
import signal
import socket
import struct
import subprocess
import time


class Failure(Exception):
    pass


class Processes:
    """All that was started; ended by process number, whatever happens."""

    def __init__(self):
        self.running = []

    def start(self, command, cpus=None, log=None, user=None, is_tree=False, end_by=signal.SIGTERM, **more):
        def prepare():
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: not to outlive this program
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            if cpus:
                os.sched_setaffinity(0, cpus)

        out = open(log, "ab") if log else subprocess.DEVNULL
        more.setdefault("stdout", out)
        more.setdefault("stdin", subprocess.DEVNULL)
        identity = {"user": user, "group": "nogroup", "extra_groups": []} if user else {}
        process = subprocess.Popen(command, stderr=out, preexec_fn=prepare, **identity, **more)
        if log:
            out.close()
        process.is_tree, process.end_by = is_tree, end_by
        self.running.append(process)
        return process

    def end(self, process, how=None, patience=2.0):
        if process.poll() is None:
            # A shell does not hand its signal on to what it runs.
            children = descendants([process.pid])[1:] if process.is_tree else []
            process.send_signal(how or process.end_by)
            for pid in children:
                end_pid(pid)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        if process in self.running:
            self.running.remove(process)

    def end_all(self):
        for process in list(reversed(self.running)):
            self.end(process)


def end_pid(pid):
    """Ends one that is not our own child: asks, and after two seconds does not."""
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            time.sleep(0.02)
            os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def raise_limits(files):
    """As root, as many descriptors as tens of thousands of clients need; else what there is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, files), max(hard, files)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descendants(pids):
    """These processes and all that they have started."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(text.split()[0]))
    found, left = [], list(pids)
    while left:
        pid = left.pop()
        found.append(pid)
        left += parents.get(pid, [])
    return found


def pin(pids, cpus):
    """Where these processes, all threads of them, may run from now on."""
    for pid in pids:
        for task in glob.glob("/proc/%d/task/*" % pid):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(os.path.basename(task)), cpus)


class Sample:
    """What the proxy, our own helpers and the whole machine have used so far."""

    def __init__(self, proxies, helpers):
        self.cpu_ns, self.switches = 0, 0
        for pid in proxies:
            cpu, switches = self.of(pid)
            self.cpu_ns += cpu
            self.switches += switches
        self.at = time.monotonic()
        self.own_ns = self.cpu_ns + sum(self.of(pid)[0] for pid in helpers + [os.getpid()])
        with open("/proc/stat") as f:
            ticks = [int(n) for n in f.readline().split()[1:9]]
        tick = 1e9 / os.sysconf("SC_CLK_TCK")
        self.busy_ns = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * tick
        self.steal_ns = ticks[7] * tick

    @staticmethod
    def of(pid):
        cpu, switches = 0, 0
        for task in glob.glob("/proc/%d/task/*" % pid):
            try:
                with open(task + "/schedstat") as f:
                    cpu += int(f.read().split()[0])
                with open(task + "/status") as f:
                    for line in f:
                        if "ctxt_switches" in line:
                            switches += int(line.split()[1])
            except OSError:
                pass
        return cpu, switches


def traced(pid):
    """Are all its threads under strace?"""
    for path in glob.glob("/proc/%d/task/*/status" % pid):
        with open(path) as f:
            if "TracerPid:\t0\n" in f.read():
                return False
    return True


def user_memory(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
    return total


def kernel_memory():
    with open("/proc/meminfo") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Slab:")) * 1024


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def come_and_go(port, clients, database):
    """So many clients log in at once and leave: what a process does or allocates only once is done then."""
    words = b"user\0bench\0database\0" + database.encode() + b"\0\0"
    startup = struct.pack(">II", 8 + len(words), 196608) + words
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(clients)]
        for s in sockets:
            s.sendall(startup)
        for s in sockets:
            got = b""
            while not got.endswith(b"Z\0\0\0\5I"):
                more = s.recv(65536)
                if not more:
                    raise Failure("a client was not let in: " + got.decode(errors="replace"))
                got += more


def sockets(state):
    """(local port, remote port) of this machine's IPv4 sockets in this state, as /proc numbers them."""
    with open("/proc/net/tcp") as f:
        next(f)
        for line in f:
            words = line.split()
            if words[3] == state:
                yield int(words[1][-4:], 16), int(words[2][-4:], 16)


def connections_to(port):
    return sum(remote == port for _, remote in sockets("01"))


def wait_for_port(port, process, log, listeners=1):
    """Until so many sockets listen there, of this process and others."""
    for _ in range(1500):
        if process.poll() is not None:
            break
        if sum(local == port for local, _ in sockets("0A")) >= listeners:
            return
        time.sleep(0.02)
    with open(log, errors="replace") as f:
        raise Failure("does not listen: " + f.read()[-400:].strip().replace("\n", " | "))
