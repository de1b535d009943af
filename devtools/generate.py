"""Writes the files that follow from others: the editor's example workflows, the schema snapshot and `locales/`, from a
running server's node list; help pages for languages that have none of their own; the pictures that come with the pack."""

from __future__ import annotations

import argparse
import sys

from . import editor_copy, help_pages, locales, schema, shipped_pictures
from .client import Client
from .hosts import ensure_host
from .report import DevError
from .server import Server, Workspace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    version = parser.parse_args().host
    help_pages.write_fallbacks()
    try:
        with Workspace() as workspace, Server(ensure_host(version), workspace) as server:
            client = Client(server.url)
            object_info = client.get("/object_info")
            shipped_pictures.write(client)
        schema.write_snapshot(object_info)
        editor_copy.write(object_info)
        locales.write_all(object_info)
    except DevError as error:
        print(f"dev.py generate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
