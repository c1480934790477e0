"""Runs the example service with Flask and SQLAlchemy while other processes use the same database."""

import subprocess
import sys
import tempfile
import threading
import unittest
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from flask_service import PortAllocationService, create_app, db  # noqa: E402
from manage_ports._program import _find  # noqa: E402

THREADS = 10
PROCESSES = 20


class PortConfiguration(db.Model):
    """The platform's table, as SQLAlchemy makes it."""

    __tablename__ = "port_configurations"
    __table_args__ = (db.UniqueConstraint("model", "app_num", name="unique_model_app"),)
    id = db.Column(db.Integer, primary_key=True)
    model = db.Column(db.String(200), nullable=False, index=True)
    app_num = db.Column(db.Integer, nullable=False, index=True)
    frontend_port = db.Column(db.Integer, nullable=False, unique=True, index=True)
    backend_port = db.Column(db.Integer, nullable=False, unique=True, index=True)
    is_available = db.Column(db.Boolean, index=True)
    metadata_json = db.Column(db.Text)
    created_at = db.Column(db.DateTime)
    updated_at = db.Column(db.DateTime)


class FlaskService(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.config = self.folder / "manage-ports.toml"
        self.config.write_text('cleanup_min_age = "0s"\n')
        self.apps_dir = self.folder / "generated" / "apps"
        self.database = f"sqlite:///{self.folder / 'app.db'}"
        self.app = create_app(self.database, config=self.config)
        with self.app.app_context():
            db.create_all()

    def tearDown(self):
        with self.app.app_context():
            db.engine.dispose()

    def test_ten_threads_beside_twenty_processes(self):
        answers, failures = [], []

        def ask(thread):
            try:
                client = self.app.test_client()
                # An app of its own, then one that everybody asks for.
                for model, app in ((f"thread{thread}", 1), ("shared", 1)):
                    response = client.post(f"/apps/{model}/{app}")
                    assert response.status_code == 200, response.text
                    answers.append(response.get_json())
            except Exception as err:
                failures.append(err)

        command = [_find(), "allocate", "--quiet", "--format=plain", f"--config={self.config}", f"--database={self.database}"]
        processes = [
            subprocess.Popen([*command, *app], stdout=subprocess.PIPE, text=True)
            for number in range(PROCESSES // 2)
            for app in ([f"process{number}", "1"], ["shared", "1"])
        ]
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        printed = [process.communicate()[0] for process in processes]
        self.assertEqual(failures, [])
        self.assertEqual([process.returncode for process in processes], [0] * PROCESSES)
        self.assertEqual(len(answers), 2 * THREADS)

        with self.app.app_context():
            rows = {(row.model, row.app_num): row for row in PortConfiguration.query.all()}
        self.assertEqual(len(rows), THREADS + PROCESSES // 2 + 1)
        ports = [port for row in rows.values() for port in (row.backend_port, row.frontend_port)]
        self.assertEqual(len(set(ports)), len(ports))
        for answer in answers:
            row = rows[answer["model"], answer["app_num"]]
            self.assertEqual((answer["backend"], answer["frontend"]), (row.backend_port, row.frontend_port))
            self.assertIsInstance(row.created_at, datetime)
        shared = rows["shared", 1]
        self.assertEqual(set(printed[1::2]), {f"{shared.backend_port} {shared.frontend_port}\n"})

    def test_the_five_methods(self):
        service = PortAllocationService(database=self.database, config=self.config)
        pair = service.get_or_allocate_ports("m", 1)
        self.assertEqual(service.get_or_allocate_ports("m", 1), pair)
        service.get_or_allocate_ports("m", 2)
        self.assertEqual(
            [(row["model"], row["app_num"], row["backend_port"]) for row in service.get_all_allocations()][0],
            ("m", 1, pair.backend),
        )
        self.assertEqual(service.check_port_conflicts(), [])
        with self.app.app_context():
            PortConfiguration.query.filter_by(app_num=2).update({"backend_port": pair.frontend})
            db.session.commit()
        (conflict,) = service.check_port_conflicts()
        self.assertIn(str(pair.frontend), conflict)
        self.assertTrue(service.release_ports("m", 2))
        self.assertFalse(service.release_ports("m", 2))
        (self.apps_dir / "m" / "app9").mkdir(parents=True)
        self.assertEqual(service.cleanup_orphaned_allocations("other"), 0)
        self.assertEqual(service.cleanup_orphaned_allocations("m"), 1)
        self.assertEqual(service.get_all_allocations(), [])


if __name__ == "__main__":
    unittest.main()
