"""The shared scenario for MySQL in the mariadb client, named on the command line: scripts, and a session typed line by line."""
import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

from report import CA, OTHER_CA, PASSWORD, POOLED, PORT, USER, Report, same

CLIENT = sys.argv[1]


def arguments(user=USER, password=PASSWORD, ca=CA, database=POOLED, more=()):
    return [CLIENT, "--no-defaults", "-h", "127.0.0.1", "-P", str(PORT), "-u", user, f"--password={password}",
            *([f"--ssl-ca={ca}", "--ssl-verify-server-cert"] if ca else ["--skip-ssl"]), "--local-infile=1", "--comments", "--max-allowed-packet=64M", *more,
            *([database] if database else [])]


def run(script, *more, **login):
    return subprocess.run(arguments(more=("-N", "-B", *more), **login), input=script, capture_output=True, text=True,
                          check=False)


def lines(script, *more, **login):
    done = run(script, *more, **login)
    if done.returncode:
        raise AssertionError(f"it ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stdout.splitlines()


def expect(code, script, *more, **login):
    done = run(script, *more, **login)
    assert done.returncode and re.search(rf"ERROR {code}\b", done.stderr), f"not {code}: {done.stdout} {done.stderr}"
    return done


class Session:
    """A client that is told one line after another, on a terminal."""

    def __init__(self, *more, **login):
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(arguments(more=("-N", "-B", "-n", "--force", "--prompt=", *more), **login), stdin=end, stdout=end,
                                        stderr=end, start_new_session=True)
        os.close(end)
        self.text = ""
        self.count = 0

    def read_until(self, pattern, seconds=20):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text, re.M):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                raise AssertionError(f"no {pattern} within {seconds} s: {self.text[-300:]}")
            try:
                self.text += os.read(self.terminal, 65536).decode(errors="replace").replace("\r", "")
            except OSError as error:
                raise AssertionError(f"it has ended: {self.text[-300:]}") from error
        found = re.search(pattern, self.text, re.M)
        text, self.text = self.text[:found.start()], self.text[found.end():]
        return text

    def write(self, line):
        os.write(self.terminal, (line + "\n").encode())

    def ask(self, line):
        """The rows that a line brings; what is typed comes back on the terminal as well."""
        self.count += 1
        self.write(line)
        self.write(f"select concat('done-', {self.count});")
        return [row for row in self.read_until(rf"^done-{self.count}$").splitlines() if row and not row.rstrip().endswith(";")]

    def refused(self, line, code):
        rows = self.ask(line)
        assert any(f"ERROR {code}" in row for row in rows), f"{line}: {rows}, not {code}"

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.terminal)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def another_at_work():
    with Session() as other:
        other.ask("set time_zone = '-03:00', sql_mode = 'ANSI_QUOTES', @mine = 'theirs'; begin; select 1;")
        yield other
        other.ask("rollback;")


def each_way(check):
    check()
    with another_at_work():
        check()
    check()


def connect_step():
    same(lines("select concat('hello ', substring_index(current_user(), '@', 1)), database(), 'ä€😀'"), ["hello app\tapp\tä€😀"])
    status = "\n".join(lines("\\s"))
    assert re.search(r"^SSL:\s+Cipher in use is", status, re.M), status
    assert re.search(r"^Server version:\s+\S*MariaDB", status, re.M), status
    same(lines("select 1", ca=None), ["1"])
    same(lines("select database()", database=""), ["NULL"])


def refusals_step():
    for login in ({"password": "wrong"}, {"user": "nobody"}, {"password": ""}):
        expect(1045, "select 1", **login)
    expect("10(44|49)", "select 1", database="no_such_schema")
    done = expect("20[0-9]+", "select 1", ca=OTHER_CA)
    assert "certificate" in done.stderr, done.stderr


def prepared_step():
    with Session() as session:
        session.ask("prepare s from 'select ? + 1';")
        each_way(lambda: same(session.ask("set @n = 5; execute s using @n;"), ["6"]))
        session.ask("deallocate prepare s;")
        session.refused("execute s using @n;", 1243)
    expect(1243, "execute s")


def transactions_step():
    lines("create or replace table account (id int primary key, amount int)")
    with Session() as one, Session() as two:
        one.ask("set autocommit = 0; insert into account values (1, 100);")
        same(two.ask("select count(*) from account;"), ["0"])
        one.ask("rollback;")
        same(one.ask("select count(*) from account;"), ["0"])
        one.ask("insert into account values (1, 100); commit;")
        same(two.ask("select amount from account;"), ["100"])
        one.ask("update account set amount = 1; savepoint s; update account set amount = 2; rollback to savepoint s; commit;")
        same(two.ask("select amount from account;"), ["1"])
        two.ask("begin; update account set amount = 3; commit;")
        same(one.ask("rollback; select amount from account;"), ["3"])
    lines("drop table account")


def errors_step():
    expect(1064, "selec 1")
    expect(1146, "select * from no_such_table")
    done = run("create or replace table once (a int primary key); begin; insert into once values (1);\n"
               "insert into once values (1);\nselect count(*) from once; rollback; select count(*) from once;", "--force")
    assert "ERROR 1062" in done.stderr, done.stderr
    same(done.stdout.split(), ["1", "0"])
    done = expect(1644, "signal sqlstate '45000' set message_text = 'take note'")
    assert "take note" in done.stderr and "45000" in done.stderr, done.stderr
    lines("drop table once")


def large_values_step():
    same(len(lines("select repeat('x', 20000000)")[0]), 20000000)
    same(lines(f"select length('{'y' * 20000000}')"), ["20000000"])
    got = [row.split("\t") for row in lines("select seq, repeat('z', 100) from seq_1_to_30000")]
    same(sum(int(n) + len(text) for n, text in got), 30000 * 30001 // 2 + 3000000)


def schema_step():
    with Session() as session:
        session.ask("create or replace table other.here (a int);")
        session.ask("use other")
        each_way(lambda: same(session.ask("select database(), (select count(*) from here);"), ["other\t0"]))
        session.ask("use app")
        each_way(lambda: same(session.ask("select database();"), ["app"]))
        session.ask("drop table other.here;")


def settings_step():
    with Session() as session, Session() as other:
        session.ask("set time_zone = '+05:00', sql_mode = '', group_concat_max_len = 4711;")
        session.ask("set names latin1 collate latin1_german1_ci;")
        each_way(lambda: same(session.ask("select @@time_zone, @@sql_mode, @@group_concat_max_len, @@collation_connection;"),
                              ["+05:00\t\t4711\tlatin1_german1_ci"]))
        same(other.ask("select @@time_zone, @@group_concat_max_len;"), ["SYSTEM\t1048576"])
    same(lines("select @@group_concat_max_len", "--init-command=set group_concat_max_len = 815"), ["815"])


def variables_step():
    with Session() as session, Session() as other:
        session.ask("set @a = 'ours'; select @b := 5; select 6 into @c;")
        each_way(lambda: same(session.ask("select @a, @b, @c;"), ["ours\t5\t6"]))
        same(other.ask("select @a, @b, @c, @mine;"), ["NULL\tNULL\tNULL\tNULL"])


def temporary_step():
    with Session() as session, Session() as other:
        session.ask("create temporary table t (a int); insert into t values (1), (2);")
        each_way(lambda: same(session.ask("select count(*) from t;"), ["2"]))
        other.refused("select * from t;", 1146)
        session.ask("drop temporary table t;")
        session.refused("select * from t;", 1146)


def insert_id_step():
    with Session() as one, Session() as two:
        one.ask("create or replace table ids (id int auto_increment primary key, who text);")
        for i in range(3):
            one.ask("insert into ids (who) values ('a');")
            two.ask("insert into ids (who) values ('b');")
            same(one.ask("select who from ids where id = last_insert_id();"), ["a"])
            same(two.ask("select who from ids where id = last_insert_id();"), ["b"])
        one.ask("drop table ids;")


def found_rows_step():
    with Session() as one, Session() as two:
        for i in range(3):
            one.ask("select sql_calc_found_rows seq from seq_1_to_30 limit 1;")
            two.ask("select sql_calc_found_rows seq from seq_1_to_7 limit 1;")
            one.write("select sql_calc_found_rows seq from seq_1_to_30 limit 1; select found_rows();")
            same(one.ask("")[-1], "30")
    same(lines("create or replace table counted (a int); insert into counted values (1), (1), (2); "
               "update counted set a = a + 1; select row_count(); drop table counted"), ["3"])


def warnings_step():
    with Session("--show-warnings") as session, another_at_work():
        same(session.ask("show warnings;"), [])
        same([row.split(":")[0] for row in session.ask("select cast('x' as signed);")], ["0", "Warning (Code 1292)"])
    with Session() as session, Session() as other:
        # One that has asked before is given more time to ask: however slow the machine, that is enough.
        same(session.ask("show warnings;"), [])
        session.write("select cast('x' as signed); show warnings;")
        assert any(row.startswith("Warning\t1292") for row in session.ask("")), "no warnings"
        same(other.ask("show warnings;"), [])


def locks_step():
    with Session() as session, Session() as other:
        same(session.ask("select get_lock('l', 1);"), ["1"])
        each_way(lambda: same(other.ask("select is_free_lock('l'), get_lock('l', 0);"), ["0\t0"]))
        same(session.ask("select release_lock('l');"), ["1"])
        session.ask("create or replace table locked (a int); lock tables locked write;")
        other.refused("set lock_wait_timeout = 1; select * from locked;", 1205)
        session.ask("unlock tables;")
        same(other.ask("select count(*) from locked;"), ["0"])
        session.ask("drop table locked;")


def procedures_step():
    script = ("delimiter //\ncreate or replace procedure two(in n int, out o int)\nbegin select n; select n + 1, 'x'; "
              "set o = n * 2; end//\ndelimiter ;\ncall two(5, @o);\nselect @o;\ndrop procedure two;\n"
              "delimiter //\nbegin not atomic declare a int default 7; select a; end//\n")
    same(lines(script), ["5", "6\tx", "10", "7"])


def several_step():
    same(lines("delimiter //\nselect 1; select 2, 'x;y'; set @a = 3; select @a//\n"), ["1", "2\tx;y", "3"])
    done = expect(1064, "delimiter //\nselect 1; selec 2; select 3//\n")
    same(done.stdout.split(), ["1"])


def local_infile_step():
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.writelines(f"{i},row {i}\n" for i in range(30000))
        file.flush()
        same(lines("create or replace table loaded (a int, b text);\n"
                   f"load data local infile '{file.name}' into table loaded fields terminated by ',';\n"
                   "select count(*), max(b) from loaded; drop table loaded"), ["30000\trow 9999"])


def kill_step():
    with Session() as session, Session() as watcher:
        # Ctrl-C: the client sends KILL QUERY with the id of its greeting, from a connection of its own.
        session.write("select count(*) from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq < 0;")
        for _ in range(200):
            if watcher.ask("select count(*) from information_schema.processlist where info like '%b.seq < 0' "
                           "and info not like '%processlist%';") == ["1"]:
                break
            time.sleep(0.01)
        os.kill(session.process.pid, signal.SIGINT)
        session.read_until("ERROR 1317.*\n")
        same(session.ask("select 1;"), ["1"])
        same(watcher.ask("select 2;"), ["2"])


def reset_step():
    with Session() as session:
        session.ask("set @a = 1, time_zone = '+05:00'; create temporary table t (a int);")
        session.write("\\r")  # connects anew
        each_way(lambda: same(session.ask("select @a, @@time_zone, database();")[-1:], ["NULL\tSYSTEM\tapp"]))
        session.refused("select * from t;", 1146)


STEPS = (("connect", connect_step), ("refusals", refusals_step), ("prepared", prepared_step),
         ("transactions", transactions_step), ("errors", errors_step), ("large_values", large_values_step),
         ("schema", schema_step), ("settings", settings_step), ("variables", variables_step),
         ("temporary", temporary_step), ("insert_id", insert_id_step), ("found_rows", found_rows_step),
         ("warnings", warnings_step), ("locks", locks_step), ("procedures", procedures_step), ("several", several_step),
         ("local_infile", local_infile_step), ("kill", kill_step), ("reset", reset_step))


def main():
    report = Report()
    only = os.environ.get("STEPS", "").split()
    for name, step in STEPS:
        if only and name not in only:
            continue
        try:
            step()
        except Exception as error:
            report.wrong(name, error)
        else:
            report.ok(name)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
