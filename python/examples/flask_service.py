"""The platform's port service, with its five methods, on the module ``manage_ports``.

The platform and the program share one database. In a request, commit before you ask for ports: the
program is another process, and would wait for the request's own open transaction.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List, NamedTuple, Optional

import manage_ports
from flask import Flask
from flask_sqlalchemy import SQLAlchemy


class PortPair(NamedTuple):
    backend: int
    frontend: int
    model: str
    app_num: int


class PortAllocationService:
    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def get_or_allocate_ports(self, model_name: str, app_num: int) -> PortPair:
        given = manage_ports.allocate(model_name, app_num, **self.settings)
        return PortPair(given.backend_port, given.frontend_port, model_name, app_num)

    def release_ports(self, model_name: str, app_num: int) -> bool:
        return manage_ports.release(model_name, app_num, **self.settings)

    def get_all_allocations(self) -> List[Dict[str, Any]]:
        return [asdict(allocation) for allocation in manage_ports.list_allocations(**self.settings)]

    def check_port_conflicts(self) -> List[str]:
        return [conflict.message for conflict in manage_ports.check(**self.settings).conflicts]

    def cleanup_orphaned_allocations(self, model_name: Optional[str] = None) -> int:
        return len(manage_ports.cleanup(model_name, **self.settings).removed)


db = SQLAlchemy()


class GeneratedApp(db.Model):  # type: ignore[name-defined, misc]
    id = db.Column(db.Integer, primary_key=True)
    model = db.Column(db.String(200), nullable=False)
    app_num = db.Column(db.Integer, nullable=False)


def create_app(database: str, **settings: Any) -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    db.init_app(app)
    ports = PortAllocationService(database=database, **settings)

    @app.post("/apps/<model>/<int:app_num>")
    def generate(model: str, app_num: int) -> Dict[str, Any]:
        db.session.add(GeneratedApp(model=model, app_num=app_num))
        db.session.commit()
        return ports.get_or_allocate_ports(model, app_num)._asdict()

    @app.get("/ports")
    def all_ports() -> List[Dict[str, Any]]:
        return ports.get_all_allocations()

    return app
