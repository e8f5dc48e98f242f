"""sysbench's OLTP loads, with prepared statements and without, of more clients than there are servers."""
import os
import re
import subprocess
import sys

from report import PASSWORD, POOLED, PORT, USER, Report

TABLES, ROWS, CLIENTS, EVENTS = 2, 500, 8, 400


def sysbench(load, *more):
    done = subprocess.run(["sysbench", f"oltp_{load}", "--mysql-host=127.0.0.1", f"--mysql-port={PORT}", f"--mysql-user={USER}",
                           f"--mysql-password={PASSWORD}", f"--mysql-db={POOLED}", f"--tables={TABLES}",
                           f"--table-size={ROWS}", *more], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"sysbench {load} ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
    return done.stdout


def run(load, prepared):
    # Transactions that lock the same rows may have to be given up: sysbench tries those anew.
    said = sysbench(load, f"--threads={CLIENTS}", f"--events={EVENTS}", "--time=20",
                    f"--db-ps-mode={'auto' if prepared else 'disable'}", "run")
    events = re.search(r"total number of events:\s+(\d+)", said)
    lost = re.search(r"reconnects:\s+(\d+)", said)
    assert events and int(events.group(1)) == EVENTS, said
    assert lost and int(lost.group(1)) == 0, said


def main():
    report = Report()
    wanted = os.environ.get("STEPS", "").split()
    try:
        sysbench("read_write", "cleanup")
        sysbench("read_write", "prepare")
    except AssertionError as error:
        report.wrong("point_select", error)
        return 1
    for prepared in (False, True):
        for load in ("point_select", "read_only", "read_write"):
            step = load + ("_prepared" if prepared else "")
            if wanted and step not in wanted:
                continue
            try:
                run(load, prepared)
            except AssertionError as error:
                report.wrong(step, error)
            else:
                report.ok(step)
    sysbench("read_write", "cleanup")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
