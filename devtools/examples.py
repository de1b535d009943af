"""Writes the editor's copies of the example workflows, from their API copies and a running server's node list."""

from __future__ import annotations

import argparse

from . import workflows
from .client import Client
from .hosts import ensure_host
from .server import Server, Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    version = parser.parse_args().host
    with Workspace() as workspace, Server(ensure_host(version), workspace) as server:
        workflows.write_editor_copies(Client(server.url).get("/object_info"))


if __name__ == "__main__":
    main()
