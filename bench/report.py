"""The tables of a run, in Markdown."""

import os
import re
import statistics


def spread(values, digits=1):
    if not values:
        return ""
    text = f"{statistics.median(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):,.{digits}f}..{max(values):,.{digits}f})"
    return text


class Report:
    def __init__(self, bench, rows, real_rows):
        self.bench, self.rows, self.real_rows = bench, rows, real_rows
        self.lines = []

    def rounds(self, row, name):
        """The quiet rounds, or all if none was quiet."""
        rounds = self.bench.results.get((row, name), [])
        return [r for r in rounds if not r["noisy"]] or rounds

    def median(self, row, name, key):
        values = [r[key] for r in self.rounds(row, name) if key in r]
        return statistics.median(values) if values else None

    def ratio(self, row, name, to, key="cpu_us"):
        a, b = self.median(row, name, key), self.median(row, to, key)
        return f"{a / b:.2f}" if a and b and name != to else ""

    def table(self, head, body):
        self.lines.append("| " + " | ".join(head) + " |")
        self.lines.append("|---|" + "---:|" * (len(head) - 1))
        self.lines += ["| " + " | ".join(line) + " |" for line in body]
        self.lines.append("")

    def load_table(self, row):
        large = bool(row.per_mib)
        head = ["", "MB/s" if large else "transactions/s", "p50 µs", "p99 µs", "p99.9 µs",
                "CPU µs a MiB" if large else "CPU µs", "to PgBouncer", "to HAProxy", "switches", "calls", "busy %",
                "others %"]
        body = []
        for c in self.bench.contestants:
            rounds = self.rounds(row.name, c.name)
            if not rounds:
                continue
            take = lambda key: [r[key] for r in rounds]
            all_rounds = self.bench.results[(row.name, c.name)]
            noisy = sum(r["noisy"] for r in all_rounds)
            cpu = [v / (row.per_mib or 1) for v in take("cpu_us")]
            line = [c.name, spread(take("mb_per_s" if large else "tps"), 0), spread(take("p50_us"), 0),
                    spread(take("p99_us"), 0), spread(take("p999_us"), 0)]
            if c.is_proxy:
                line += [spread(cpu, 1), self.ratio(row.name, c.name, "pgbouncer"),
                         self.ratio(row.name, c.name, "haproxy"), f"{statistics.median(take('switches')):.2f}",
                         f"{rounds[0]['calls']:.2f}" if "calls" in rounds[0] else "",
                         f"{statistics.median(take('busy')):.0f}"]
            else:
                line += [""] * 6
            others = statistics.median([r["others"] + r["steal"] for r in rounds])
            line.append(f"{others:.0f}" + ("" if not noisy else ", **all noisy**" if noisy == len(all_rounds) else
                                           f", {noisy} of {len(all_rounds)} left out"))
            body.append(line)
        self.lines += [f"### {row.title[0].upper() + row.title[1:]}", ""]
        self.table(head, body)
        for c in self.bench.contestants:
            calls = self.bench.results.get((row.name, c.name), [{}])[0].get("calls_by_name")
            if calls:
                names = sorted(calls, key=lambda name: -calls[name])
                self.lines.append(f"- calls of {c.name}: " + ", ".join(
                    f"{name} {calls[name]:.2f}" for name in names if calls[name] >= 0.005))
        self.lines.append("")

    def idle_table(self, row):
        body = []
        for c in self.bench.contestants:
            for r in self.bench.results.get((row.name, c.name), []):
                body.append([c.name, f"{r['used_clients']:,}", f"{r['memory']:,.0f}" if c.is_proxy else "",
                             f"{r['kernel']:,.0f}", f"{r['busy']:.1f}" if c.is_proxy else ""])
        self.lines += ["### Idle clients", ""]
        self.table(["", "clients", "bytes each, its own", "bytes each, the kernel's, both ends", "CPU %"], body)

    def real_table(self, row):
        body = []
        for c in self.bench.contestants:
            rounds = self.bench.results.get((row.name, c.name), [])
            if rounds:
                take = lambda key: [r[key] for r in rounds]
                body.append([c.name, spread(take("tps"), 0), spread(take("mean_us"), 0)] + (
                    [spread(take("cpu_us")), self.ratio(row.name, c.name, "pgbouncer"),
                     self.ratio(row.name, c.name, "haproxy")] if c.is_proxy else [""] * 3))
        self.lines += [f"### {row.title[0].upper() + row.title[1:]}", ""]
        self.table(["", "transactions/s", "mean latency µs", "CPU µs", "to PgBouncer", "to HAProxy"], body)

    def targets(self):
        """Forebay against the targets that the project has set itself."""
        body = []

        def line(what, row, key, to, most, least=None):
            ours = self.median(row, "forebay", key)
            theirs = self.median(row, to, key) if to else 1.0
            if ours is None or not theirs:
                return
            value = ours / theirs
            met = value <= most if least is None else value >= least
            name = {"pgbouncer": " of PgBouncer's", "haproxy": " of HAProxy's"}.get(to, "")
            noisy = key not in ("calls", "memory") and any(
                r["noisy"] for name_of in ("forebay", to) for r in self.rounds(row, name_of))
            body.append([what, (f"at most {most:g}" if least is None else f"at least {least:g}") + name,
                         f"{value:.2f}", ("yes" if met else "**no**") + (" (noisy)" if noisy else "")])

        for row, pgbouncer, haproxy in (("simple", 0.8, 1.0), ("extended", 0.8, 1.0), ("prepared", 0.65, 1.1),
                                        ("transaction", 0.8, 0.8)):
            line(f"CPU, {row}", row, "cpu_us", "pgbouncer", pgbouncer)
            line(f"CPU, {row}", row, "cpu_us", "haproxy", haproxy)
        line("system calls, simple", "simple", "calls", None, 4.2)
        line("system calls, prepared", "prepared", "calls", None, 4.2)
        for row in ("simple", "prepared"):
            line(f"throughput, {row}", row, "tps", "pgbouncer", 0, 1.25)
        for row in ("simple", "simple-1000"):
            line(f"p99, {row}", row, "p99_us", "pgbouncer", 1.0)
            line(f"p99.9, {row}", row, "p999_us", "pgbouncer", 1.0)
        line("bytes of an idle client", "idle", "memory", None, 600)
        for to in ("pgbouncer", "haproxy"):
            line("relay, buffers of 64 KiB", "large-64k", "mb_per_s", to, 0, 0.9)
        line("connect and log in, CPU", "connect", "cpu_us", "pgbouncer", 1.0)
        line("connect and log in, system calls", "connect", "calls", "pgbouncer", 1.0)
        for row in ("simple-2w", "prepared-2w"):
            line(f"throughput, {row}", row, "tps", "pgbouncer", 0, 1.0)
            line(f"CPU, {row}", row, "cpu_us", "pgbouncer", 1.0)
        if body:
            self.lines += ["### Against the targets", ""]
            self.table(["measure", "target", "measured", "met"], body)

    def machine(self, load_before):
        with open("/proc/cpuinfo") as f:
            models = re.findall(r"model name\s*: (.*)", f.read())
        release = ""
        if os.path.exists("/etc/os-release"):
            with open("/etc/os-release") as f:
                release = (re.search(r'PRETTY_NAME="(.*)"', f.read()) or [None, ""])[1] + ", "
        o = self.bench.options
        self.lines += [
            f"{len(models)} CPUs ({models[0] if models else os.uname().machine}), {release}Linux {os.uname().release}. "
            f"Load average before {load_before[0]:.2f}, after {os.getloadavg()[0]:.2f}. {o.rounds} interleaved rounds of "
            f"{o.seconds:g} s after {o.warm_up:g} s of warm-up. One worker, pinned to a CPU; load and stub share the "
            "other CPUs. Noisy rounds are left out where there are quiet ones.", ""]
        self.lines += [f"- {c.name}: {c.version()}" for c in self.bench.contestants if c.version()] + [""]

    def build(self, load_before):
        self.machine(load_before)
        self.targets()
        for row in self.rows:
            if not any((row.name, c.name) in self.bench.results for c in self.bench.contestants):
                continue
            if row.mode == "idle":
                self.idle_table(row)
            else:
                self.load_table(row)
        for row in self.real_rows:
            self.real_table(row)
        if self.bench.remarks:
            self.lines += ["Remarks:", ""] + [f"- {text}" for text in self.bench.remarks] + [""]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self.lines))


BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_markdown(path, text):
    """Between its two marks if the file has them; else as the whole file."""
    old = ""
    if os.path.exists(path):
        with open(path) as f:
            old = f.read()
    if BEGIN in old and END in old:
        head, _, rest = old.partition(BEGIN)
        text = head + BEGIN + "\n" + text.rstrip() + "\n" + END + rest.partition(END)[2]
    with open(path, "w") as f:
        f.write(text)
