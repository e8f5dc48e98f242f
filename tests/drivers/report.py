"""What the Python scenarios share: where to connect, and the lines that say how a step went."""
import os
import traceback

HOST = "localhost"
PORT = int(os.environ["TEST_PORT"])
CA = os.environ["TEST_CA"]
OTHER_CA = os.environ["TEST_OTHER_CA"]
DIRECT = bool(os.environ.get("TEST_DIRECT"))
USER = "app"
PASSWORD = "app-secret"
POOLED = "app"
SESSION = "app_session"
HANGS_AFTER = float(os.environ["TEST_SECONDS"]) - 5


class Report:
    def __init__(self):
        self.failed = 0

    def ok(self, step):
        print(f"ok - {step}", flush=True)

    def wrong(self, step, error):
        self.failed += 1
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"not ok - {step}: {text}", flush=True)
        for frame in traceback.extract_tb(error.__traceback__):
            if "scenario_" in frame.filename:
                print(f"  line {frame.lineno}, in {frame.name}: {frame.line}", flush=True)


def same(got, expected, what="value"):
    if got != expected:
        raise AssertionError(f"{what} is {str(got)[:200]!r}, not {str(expected)[:200]!r}")
