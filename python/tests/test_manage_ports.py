"""Runs the module on databases of its own, with the program that it came with, through every exit code."""

import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest import mock

import manage_ports
from manage_ports import _program

# A background job of a shell ignores SIGINT, and so would the program and the callers here.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A caller that says when it waits for the program, and after an interrupt whether it still has a child.
INTERRUPTED = """
import os, subprocess, sys, manage_ports
communicate = subprocess.Popen.communicate
def wait(process):
    print("waiting", flush=True)
    return communicate(process)
subprocess.Popen.communicate = wait
try:
    manage_ports.allocate("m", 2, config=sys.argv[1])
except KeyboardInterrupt:
    try:
        print("a child is left", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("interrupted")
"""


class Test(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.database = self.folder / "data" / "ports.db"
        self.write("")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MANAGE_PORTS_")}
        hermetic = mock.patch.dict(os.environ, environment, clear=True)
        hermetic.start()
        self.addCleanup(hermetic.stop)

    def write(self, config):
        self.config = self.folder / "manage-ports.toml"
        self.config.write_text(config)

    def allocate(self, model, apps, **others):
        return manage_ports.allocate(model, apps, config=self.config, **others)

    def locked(self):
        """A write transaction on the database, open until the test ends."""
        connection = sqlite3.connect(str(self.database), isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def sql(self, statement):
        connection = sqlite3.connect(str(self.database))
        with connection:
            connection.execute(statement)
        connection.close()

    def fails(self, kind, code, function, *args, **settings):
        """Checks that a call raises exactly the class of this kind, and returns what it raised."""
        classes = {
            "usage": manage_ports.UsageError,
            "config": manage_ports.ConfigError,
            "database": manage_ports.DatabaseError,
            "locked": manage_ports.LockedError,
            "exhausted": manage_ports.ExhaustedError,
            "apps_dir": manage_ports.AppsDirError,
            "conflict": manage_ports.ConflictError,
        }
        settings.setdefault("config", self.config)
        with self.assertRaises(manage_ports.Error) as caught:
            function(*args, **settings)
        err = caught.exception
        self.assertEqual((type(err), err.kind, err.exit_code), (classes.get(kind, manage_ports.Error), kind, code), err)
        self.assertTrue(str(err).startswith(err.message))
        copy = pickle.loads(pickle.dumps(err))
        self.assertEqual((type(copy), str(copy), copy.hint, copy.exit_code), (type(err), str(err), err.hint, code))
        return err


class Answers(Test):
    def test_one_app_gets_the_same_pair_again(self):
        before = datetime.now(timezone.utc)
        first = self.allocate("openai/o3", 3)
        self.assertEqual((first.model, first.app_num, first.is_available), ("openai/o3", 3, True))
        self.assertTrue(before <= first.created_at <= datetime.now(timezone.utc))
        self.assertEqual(first.created_at.utcoffset(), timedelta(0))
        self.assertEqual(first.updated_at, first.created_at)
        self.assertIsNone(first.reserved_until)
        again = self.allocate("openai/o3", 3)
        self.assertEqual((first.created, again.created), (True, False))
        self.assertEqual(again, first)
        shown = manage_ports.show("openai/o3", 3, config=self.config)
        self.assertEqual((shown, shown.created), (first, None))
        with self.assertRaises(AttributeError):
            first.backend_port = 1
        self.assertEqual({first: 1}[shown], 1)

    def test_several_apps_come_in_the_order_given(self):
        given = self.allocate("m", (app for app in (7, 3, 4, 5, 7)))
        self.assertEqual([row.app_num for row in given], [7, 3, 4, 5, 7])
        self.assertEqual(given[0], given[4])
        self.assertEqual(len({row.backend_port for row in given}), 4)
        self.assertEqual(self.allocate("m", []), [])
        self.assertEqual([row.app_num for row in self.allocate("m", {9})], [9])
        listed = manage_ports.list_allocations(config=self.config)
        self.assertEqual([row.app_num for row in listed], [3, 4, 5, 7, 9])

    def test_ten_thousand_scattered_apps(self):
        apps = [2_147_483_647 - 2 * number for number in range(10_000)]
        self.write("[ports]\nstep = 1\nbackend_base = 10000\nfrontend_base = 20000\nprobe = false\n")
        self.assertEqual([row.app_num for row in self.allocate("m", apps)], apps)
        self.assertEqual(len(manage_ports.release("m", reversed(apps), config=self.config)), 10_000)
        err = self.fails("usage", 2, manage_ports.allocate, "m", range(1, 10**12))
        self.assertIn("10000", err.message)

    def test_names_that_look_like_flags_or_globs(self):
        for model in ("-x", "--json", "a b", "m/app3", "模型", "*", "x\u2028y"):
            given = self.allocate(model, 1)
            self.assertEqual(given.model, model)
            self.assertEqual(manage_ports.show(model, 1, config=self.config), given)
            self.assertIs(manage_ports.release(model, 1, config=self.config), True)

    def test_globs_select_models(self):
        self.allocate("openai_o3", 1)
        self.allocate("openai_o4", 1)
        self.allocate("-x", 1)
        for glob, count in (("openai_*", 2), ("-x", 1), ("none", 0), (None, 3)):
            self.assertEqual(len(manage_ports.list_allocations(glob, config=self.config)), count)

    def test_ports_by_number_and_an_env_file(self):
        env_file = self.folder / "app.env"
        env_file.write_text("KEEP=1\n")
        given = self.allocate("m", 1, backend_port=6001, frontend_port=9001, probe=False, env_file=env_file)
        self.assertEqual((given.backend_port, given.frontend_port), (6001, 9001))
        self.assertEqual(env_file.read_text(), "KEEP=1\nBACKEND_PORT=6001\nFRONTEND_PORT=9001\n")

    def test_a_reservation_has_an_end(self):
        until = datetime.now(timezone.utc) + timedelta(hours=2)
        one = manage_ports.reserve("m", 1, timedelta(hours=2), config=self.config)
        self.assertTrue(until <= one.reserved_until < until + timedelta(minutes=5))
        several = manage_ports.reserve("m", range(1, 3), timedelta(microseconds=1), config=self.config)
        self.assertEqual([row.created for row in several], [False, True])
        self.assertEqual(several[0].reserved_until, one.reserved_until)
        self.sql("""UPDATE port_configurations SET metadata_json = '{"reserved_until": "soon"}' WHERE app_num = 2""")
        self.assertEqual(manage_ports.show("m", 2, config=self.config).reserved_until, "soon")
        self.sql("UPDATE port_configurations SET metadata_json = NULL, created_at = NULL, updated_at = NULL")
        bare = manage_ports.show("m", 2, config=self.config)
        self.assertEqual((bare.created_at, bare.updated_at, bare.reserved_until), (None, None, None))

    def test_no_is_an_answer(self):
        self.allocate("m", [1, 2])
        self.assertIsNone(manage_ports.show("m", 3, config=self.config))
        self.assertIs(manage_ports.release("m", 3, config=self.config), False)
        self.assertIs(manage_ports.release("m", 1, config=self.config), True)
        self.assertEqual([row.app_num for row in manage_ports.release("m", [2, 3], config=self.config)], [2])
        self.assertEqual(manage_ports.release("m", [2, 3], config=self.config), [])

    def test_a_check_reports_conflicts(self):
        one, two = self.allocate("m", [1, 2])
        self.assertEqual(manage_ports.check(config=self.config).ok, True)
        self.sql(f"UPDATE port_configurations SET backend_port = {one.frontend_port} WHERE app_num = 2")
        report = manage_ports.check(config=self.config)
        (conflict,) = report.conflicts
        self.assertEqual((report.ok, conflict.kind, conflict.ports), (False, "cross_role_port", (one.frontend_port,)))
        self.assertEqual(sorted(conflict.apps), [("m", 1), ("m", 2)])
        self.assertIn("no_apps_dir", [warning.kind for warning in report.warnings])

    def test_a_cleanup_tells_what_it_keeps(self):
        self.allocate("m", [1, 2])
        self.allocate("n", 1)
        (self.folder / "generated/apps/m/app1").mkdir(parents=True)
        report = manage_ports.cleanup(config=self.config)
        self.assertEqual(report.removed, [])
        self.assertEqual(report.kept[0], ("m", 2, "too_recent"))
        manage_ports.reserve("m", 2, timedelta(hours=1), config=self.config)
        settings = {"min_age": timedelta(0), "config": self.config}
        would = manage_ports.cleanup(dry_run=True, **settings)
        self.assertEqual([row.model for row in would.removed], ["n"])
        self.assertEqual(manage_ports.cleanup("m", **settings).removed, [])
        removed, kept = manage_ports.cleanup(**settings)
        self.assertEqual((removed, kept), (would.removed, [("m", 2, "reserved")]))

    def test_settings_win_over_the_environment(self):
        other = self.folder / "other.db"
        with mock.patch.dict(os.environ, {"MANAGE_PORTS_DATABASE": str(other), "MANAGE_PORTS_CONFIG": str(self.config)}):
            manage_ports.allocate("environment", 1)
            manage_ports.allocate("setting", 1, database=f"sqlite:///{self.folder}/third.db")
            self.assertEqual([row.model for row in manage_ports.list_allocations()], ["environment"])
            listed = manage_ports.list_allocations(database=self.folder / "third.db")
            self.assertEqual([row.model for row in listed], ["setting"])

    def test_a_password_is_not_an_argument(self):
        url = "postgresql://user:secret@127.0.0.1:1/ports"
        with mock.patch.object(_program.subprocess, "Popen", wraps=subprocess.Popen) as popen:
            err = self.fails("database", 3, manage_ports.list_allocations, database=url, timeout=timedelta(seconds=1))
        self.assertIn("127.0.0.1", err.message)
        self.assertNotIn(b"secret", b" ".join(popen.call_args[0][0]))

    def test_notices_are_logged(self):
        with self.assertLogs("manage_ports", logging.INFO) as logs:
            self.allocate("m", 1)
        self.assertIn(str(self.database), logs.records[0].getMessage())


class Failures(Test):
    def test_bad_arguments(self):
        for apps in (0, -1, [0, 1], 2**31, 10**30):
            self.fails("usage", 2, manage_ports.allocate, "m", apps)
        for model in ("", ".", "x" * 201, "a\0b", "\ud800"):
            self.fails("usage", 2, manage_ports.allocate, model, 1)
        self.fails("usage", 2, manage_ports.allocate, "m", 1, backend_port=70000, frontend_port=1)
        self.fails("usage", 2, manage_ports.reserve, "m", 1, timedelta(seconds=-1))
        self.fails("usage", 2, manage_ports.list_allocations, database="")
        for wrong in ("12", b"12", None, 1.5, ["1"], [1.5]):
            with self.assertRaises(TypeError):
                self.allocate("m", wrong)
        with self.assertRaises(TypeError):
            manage_ports.reserve("m", 1, 3600, config=self.config)
        with self.assertRaises(TypeError):
            self.allocate(None, 1)
        self.assertFalse(self.database.exists())

    def test_bad_configuration(self):
        self.write("step = 3\n")
        self.fails("config", 2, manage_ports.list_allocations)

    def test_a_database_that_is_none(self):
        missing = self.fails("database", 3, manage_ports.list_allocations, database=self.folder / "missing.db")
        self.assertIn("missing.db", missing.message)
        self.fails("database", 3, manage_ports.check, database=self.config.parent)

    def test_a_locked_database_says_commit_first(self):
        self.allocate("m", 1)
        self.locked()
        err = self.fails("locked", 3, manage_ports.allocate, "m", 2, timeout=timedelta(milliseconds=200))
        self.assertIn("commit first", err.hint)
        self.assertIn("hint: ", str(err))

    def test_a_full_range(self):
        self.write("[ports]\nmax = 8002\nprobe = false\nstep = 2999\n")
        self.allocate("m", 1)
        self.fails("exhausted", 4, manage_ports.allocate, "m", 2)

    def test_a_missing_apps_directory(self):
        self.allocate("m", 1)
        self.fails("apps_dir", 5, manage_ports.cleanup)
        self.fails("apps_dir", 5, manage_ports.check, apps_dir=self.folder / "missing")

    def test_ports_that_are_taken(self):
        given = self.allocate("m", 1)
        ports = {"backend_port": given.backend_port, "frontend_port": given.frontend_port}
        self.assertIn("m/app1", self.fails("conflict", 6, manage_ports.allocate, "m", 2, **ports).message)

    def test_a_file_that_cannot_be_written(self):
        self.fails("io", 1, manage_ports.allocate, "m", 1, env_file=self.folder)

    def signalled(self, signum, kind, code):
        """Sends a signal to the program while it waits for a lock."""
        self.allocate("m", 1)
        self.locked()
        start = subprocess.Popen

        def popen(*args, **kwargs):
            process = start(*args, **kwargs)
            process.send_signal(signum)
            return process

        with mock.patch.object(subprocess, "Popen", popen):
            self.fails(kind, code, manage_ports.allocate, "m", 2)

    def test_an_interrupted_program(self):
        self.signalled(signal.SIGINT, "interrupted", 130)

    def test_a_killed_program(self):
        self.signalled(signal.SIGKILL, "io", 137)

    def test_an_interrupted_caller_leaves_no_child(self):
        self.allocate("m", 1)
        self.locked()
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, str(self.config)], stdout=subprocess.PIPE, text=True
        ) as caller:
            self.assertEqual(caller.stdout.readline(), "waiting\n")
            caller.send_signal(signal.SIGINT)
            self.assertEqual(caller.communicate()[0], "interrupted\n")

    def test_a_program_that_is_not_there(self):
        with mock.patch.object(_program, "_program", None), mock.patch.object(
            _program, "_places", lambda: [self.folder / "bin" / "manage-ports"]
        ):
            err = self.fails("io", 127, manage_ports.list_allocations)
        self.assertIn(str(self.folder / "bin" / "manage-ports"), err.message)
        self.assertIn("pip install", err.hint)

    def test_a_program_that_cannot_be_executed(self):
        with mock.patch.object(_program, "_program", str(self.config)):
            self.fails("io", 126, manage_ports.list_allocations)

    def test_threads_share_nothing(self):
        given = []
        threads = [threading.Thread(target=lambda app=app: given.append(self.allocate("m", app))) for app in range(1, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len({port for row in given for port in (row.backend_port, row.frontend_port)}), 20)


if __name__ == "__main__":
    unittest.main()
