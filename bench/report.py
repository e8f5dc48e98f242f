"""The tables of a run, in Markdown."""

import os
import re
import statistics

COMPARED = "simple extended prepared transaction connect"  # rows of one worker with such of two
SECOND = (("has as much to do as the first", "-doubled-2w"), ("shares its work", "-2w"))


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

    def paired(self, ours, theirs, key):
        """The ratio of one to the other, each a row and a contestant: the median of the rounds that both have had one after the
        other, so that a machine that becomes slower meanwhile does so for both; and its standard error. None: not measured."""
        ours, theirs = ({r["round"]: r for r in self.bench.results.get(place, []) if r.get(key)} for place in (ours, theirs))
        common = sorted(ours.keys() & theirs.keys())
        quiet = [n for n in common if not ours[n]["noisy"] and not theirs[n]["noisy"]] or common
        ratios = [ours[n][key] / theirs[n][key] for n in quiet]
        if not ratios:
            return None
        return statistics.median(ratios), (1.25 * statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0)

    def ratio(self, row, name, to, key="cpu_us"):
        pair = self.paired((row, name), (row, to), key) if name != to else None
        return (f"{pair[0]:.2f}" + (f" ± {pair[1]:.2f}" if pair[1] else "")) if pair else ""

    def table(self, head, body):
        self.lines.append("| " + " | ".join(head) + " |")
        self.lines.append("|---|" + "---:|" * (len(head) - 1))
        self.lines += ["| " + " | ".join(line) + " |" for line in body]
        self.lines.append("")

    def load_table(self, row):
        large = bool(row.per_mib)
        head = ["", "MB/s" if large else "transactions/s", "p50 µs", "p99 µs", "p99.9 µs",
                "CPU µs a MiB" if large else "CPU µs", "its own", "to PgBouncer", "to HAProxy", "switches", "calls",
                "instructions", "busy %", "others %"]
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
                own = self.median(row.name, c.name, "user_us")
                line += [spread(cpu, 1), f"{own / (row.per_mib or 1):.1f}" if own else "", self.ratio(row.name, c.name, "pgbouncer"),
                         self.ratio(row.name, c.name, "haproxy"), f"{statistics.median(take('switches')):.2f}",
                         f"{rounds[0]['calls']:.2f}" if "calls" in rounds[0] else "",
                         f"{rounds[0]['instructions']:,.0f}" if "instructions" in rounds[0] else "",
                         f"{statistics.median(take('busy')):.0f}"]
            else:
                line += [""] * 8
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
        self.lines += [f"### {row.title[0].upper() + row.title[1:]}", ""]
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
        """Forebay against the targets that the project has set itself; as far as the rows were measured."""
        body = []
        names = {"pgbouncer": " of PgBouncer's", "haproxy": " of HAProxy's"}

        def tell(what, value, most=None, least=None, of="", error=0.0, noisy=False, note=""):
            met = value <= most if least is None else value >= least
            body.append([what, (f"at most {most:g}" if least is None else f"at least {least:g}") + of,
                         f"{value:,.2f}" + (f" ± {error:.2f}" if error else ""),
                         ("yes" if met else "**no**") + (" (noisy)" if noisy else "") + note])

        def noisy(*places):
            return any(r["noisy"] for place in places for r in self.rounds(*place))

        def against(what, row, key, to, most=None, least=None, note=""):
            """Forebay's to another's: to is a contestant, or (row, contestant)."""
            row_to, name_to = to if isinstance(to, tuple) else (row, to)
            pair = self.paired((row, "forebay"), (row_to, name_to), key)
            if pair:
                counted = key in ("calls", "memory", "instructions")
                tell(what, pair[0], most, least, names.get(to, f" of {row_to}'s"), 0.0 if counted else pair[1],
                     not counted and noisy((row, "forebay"), (row_to, name_to)), note)

        def alone(what, row, key, most):
            value = self.median(row, "forebay", key)
            if value is not None:
                tell(what, value, most)

        for row, pgbouncer, haproxy in (("simple", 0.8, 1.0), ("extended", 0.8, 1.0), ("prepared", 0.65, 1.1),
                                        ("transaction", 0.8, 0.8)):
            against(f"CPU, {row}", row, "cpu_us", "pgbouncer", pgbouncer)
            against(f"CPU, {row}", row, "cpu_us", "haproxy", haproxy)
        for row in ("mysql-text", "mysql-prepared"):
            against(f"CPU, {row}", row, "cpu_us", "haproxy", 1.15)
        for row in ("simple", "prepared"):
            alone(f"system calls, {row}", row, "calls", 4.2)
        for row in ("simple", "extended", "prepared", "transaction", "simple-1000"):
            busy = self.median(row, "forebay", "busy")
            against(f"throughput, {row}", row, "tps", "pgbouncer", least=1.25,
                    note=f"; the proxy was only {busy:.0f} % busy" if busy and busy < 90 else "")
        for row in ("simple", "simple-1000"):
            against(f"p99, {row}", row, "p99_us", "pgbouncer", 1.0)
            against(f"p99.9, {row}", row, "p999_us", "pgbouncer", 1.0)
        alone("bytes of an idle client", "idle", "memory", 600)
        self.relay_target(tell, noisy)
        against("connect, log in, query, disconnect: CPU", "connect", "cpu_us", "pgbouncer", 1.0)
        against("connect, log in, query, disconnect: calls", "connect", "calls", "pgbouncer", 1.0)
        alone("connect, log in, query, disconnect: calls", "connect", "calls", 15)

        pairs = [row for row in self.rows if row.workers == 2 and not row.alone and not row.beside]
        for row in pairs:
            key = "mb_per_s" if row.per_mib else "tps"
            against(f"throughput, {row.name}", row.name, key, "pgbouncer", least=1.0)
            against(f"CPU, {row.name}", row.name, "cpu_us", "pgbouncer", 1.0)
            against(f"p99, {row.name}", row.name, "p99_us", "pgbouncer", 1.0)
        servers = [r["servers"] for row in pairs for r in self.bench.results.get((row.name, "forebay"), [])]
        if servers:
            tell("connections to the backend, two workers", max(servers), max(row.servers for row in pairs))
        for how, suffix in SECOND:
            for mode in COMPARED.split():
                against(f"a second worker that {how}: CPU, {mode}", mode + suffix, "cpu_us", (mode + "-1w", "forebay"), 1.05)

        for row in ("idle-15000", "idle-pools"):
            alone(f"CPU % while idle, {row}", row, "busy", 0.1)
        for row, to in (("idle-active", "simple"), ("pools", "simple"), ("pools-used", "simple-1000")):
            for what, key in (("instructions", "instructions"), ("CPU", "user_us")):
                against(f"{what} of its own, without the kernel's part, {row}", row, key, (to, "forebay"), 1.05)
        for row, to in (("1server-2w", "1server-1w"), ("2servers-4w", "2servers-1w"), ("lopsided-2w", "simple-1w")):
            against(f"no collapse: throughput, {row}", row, "tps", (to, "forebay"), least=0.7)
        if body:
            self.lines += ["### Against the targets", ""]
            self.table(["measure", "target", "measured", "met"], body)

    def second_workers(self):
        """What a second worker, thread or process costs everybody."""
        body = []
        for how, suffix in SECOND:
            for mode in COMPARED.split():
                cells = []
                for c in self.bench.contestants:
                    for key in ("cpu_us", "tps") if c.is_proxy else ():
                        pair = self.paired((mode + suffix, c.name), (mode + "-1w", c.name), key)
                        cells.append(f"{pair[0]:.2f} ± {pair[1]:.2f}" if pair else "")
                if any(cells):
                    body.append([f"{mode}, it {how}"] + cells)
        if body:
            self.lines += ["### A second worker, thread or process, to one; all of it on all CPUs", ""]
            self.table([""] + [f"{c.name}, {what}" for c in self.bench.contestants if c.is_proxy
                               for what in ("CPU", "throughput")], body)

    def relay_target(self, tell, noisy):
        """The best of all peers at the best of their buffer sizes."""
        rows = ["large", "large-64k"]
        peers = [(row, c.name) for row in rows for c in self.bench.contestants if c.is_proxy and not c.is_ours]
        speed = lambda place: self.median(*place, "mb_per_s") or 0
        ours = max(((row, "forebay") for row in rows), key=speed)
        best = max(peers, key=speed, default=None)
        if best and speed(ours) and speed(best):
            tell("relay of large results, MB/s", speed(ours) / speed(best), least=0.9,
                 of=f" of the best peer's ({best[1]}, {best[0]})", noisy=noisy(ours, best))

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
            f"{o.seconds:g} s after {o.warm_up:g} s of warm-up (at most 4 in the rows of less weight; twice as many in rows "
            "that are compared with one another). One worker, pinned to a CPU, and load and stub on the other CPUs, unless a row "
            "says otherwise. Noisy rounds are left out where there are quiet ones. Ratios are medians of the rounds' ratios, "
            "± their standard error. \"Its own\" and \"instructions\" are without the kernel's part.", ""]
        self.lines += [f"- {c.name}: {c.version()}" for c in self.bench.contestants if c.version()] + [""]

    def build(self, load_before):
        self.machine(load_before)
        self.targets()
        self.second_workers()
        for row in self.rows:
            if not any((row.name, c.name) in self.bench.results for c in self.bench.contestants):
                continue
            if row.mode == "idle":
                self.idle_table(row)
            else:
                self.load_table(row)
        for row in self.real_rows:
            self.real_table(row)
        remarks = self.bench.remarks + [f"{name} is left out of {', '.join(rows)}: {why}"
                                        for (name, why), rows in self.bench.left_out.items()]
        if remarks:
            self.lines += ["Remarks:", ""] + [f"- {text}" for text in remarks] + [""]
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
