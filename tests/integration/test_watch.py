"""`memfuse status --watch`: ticks of a running server as lines, JSON or a screen."""

import json
import os
import pty
import signal
import subprocess

import pytest
from harness import BINARY, PATIENCE_S, Server, clean_environment, run_cli

SERVER = {"model": False}


class Watch:
    """A running `memfuse status --watch`; its output comes through a pipe or a terminal."""

    def __init__(self, server, *arguments, terminal=False):
        line = [str(BINARY), "status", "--data", str(server.data), *arguments]
        self.master, out = pty.openpty() if terminal else (None, subprocess.PIPE)
        self.process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, env=clean_environment(TERM="xterm")
        )
        if terminal:
            os.close(out)

    def line(self):
        text = self.process.stdout.readline().decode()
        assert text, self.process.stderr.read().decode()
        return text

    def end(self, number=signal.SIGINT):
        """Ends it as Ctrl-C does; its exit code and what it complained about."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        return code, self.process.stderr.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.master is not None:
            os.close(self.master)


def test_each_tick_is_a_line_with_the_rates_since_the_last(server, api, session):
    with Watch(server, "--watch=0.2") as watch:
        first = watch.line()
        assert "health=" in first and "rss_mb=" in first and "/s" not in first
        api.add(session, "Somebody is watching.")
        lines = [watch.line() for _ in range(3)]
        while not any("add=" in line for line in lines):
            lines.append(watch.line())
            assert len(lines) < 1000
        assert watch.end() == (0, "")


def test_a_tick_as_json_is_one_object_with_status_and_rates(server, api, session):
    with Watch(server, "--watch=0.2", "--json") as watch:
        first = json.loads(watch.line())
        assert "interval_s" not in first and first["per_second"] == {}
        api.add(session, "One object a tick.")
        rates = 0
        for _ in range(1000):
            tick = json.loads(watch.line())
            assert tick["interval_s"] > 0.1
            assert tick["status"]["operations"]["add"]["finished"] >= 1
            rates += tick["per_second"]["add"]
            if rates > 0:
                break
        assert rates > 0
        assert watch.end(signal.SIGTERM) == (0, "")


def test_on_a_terminal_the_screen_is_drawn_anew(server, api, session):
    api.add(session, "Look at the screen.")
    with Watch(server, "--watch=0.1", terminal=True) as watch:
        seen = b""
        while seen.count(b"\x1b[H\x1b[J") < 3:
            seen += os.read(watch.master, 65536)
        screen = seen.split(b"\x1b[H\x1b[J")[2].decode()
        assert watch.end()[0] == 0
    for text in ("operation", "a second", "p50 ms", "add ", "health:", "query_latency_ms", "unknown", "alert below 50"):
        assert text in screen


def test_the_end_of_the_server_ends_the_watch_and_is_told(tmp_path):
    with Server(tmp_path / "data", model=False) as running:
        with Watch(running, "--watch=0.1") as watch:
            watch.line()
            running.stop()
            assert watch.process.wait(PATIENCE_S) == 1
            assert watch.process.stderr.read().decode().startswith("memfuse: ")


def test_without_a_server_there_is_nothing_to_watch(tmp_path):
    result = run_cli("status", "--watch", data=tmp_path / "data")
    assert result.returncode == 1
    assert "no memfuse serves this data directory" in result.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "1e9", "5x"])
def test_senseless_intervals_are_refused_by_name(tmp_path, seconds):
    result = run_cli("status", f"--watch={seconds}", data=tmp_path / "data")
    assert result.returncode == 2
    assert f"--watch={seconds}: give the seconds between two looks, 0.1 to 3600" in result.stderr


def test_the_page_for_prometheus_is_printed_without_a_server_too(tmp_path):
    result = run_cli("status", "--metrics", data=tmp_path / "data")
    assert result.returncode == 0
    assert "\nmemfuse_store_users 0\n" in result.stdout
