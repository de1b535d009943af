"""A running ComfyUI over its HTTP API, with nothing but the standard library."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

from ..errors import StudyError

FOLDER = "aai_study"  # in ComfyUI's input folder, for the files of plans
POLL = (0.02, 0.05, 0.5)  # seconds between two looks at a prompt: at least, as a share of the wait so far, at most
PATIENCE = 60.0  # seconds without any answer until the server counts as gone
READ_TIMEOUT = 60.0  # seconds for one answer


class RunError(StudyError):
    """A workflow that ComfyUI refused or that failed; the server itself answers."""


class Server:
    """Talks to one ComfyUI; every method blocks and raises `StudyError`."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def require(self, classes: set[str]) -> str:
        """See that the server answers and has these nodes; ComfyUI's version."""
        stats = self._json("/system_stats")
        absent = [name for name in sorted(classes) if not self._json(f"/object_info/{urllib.parse.quote(name)}")]
        if absent:
            raise StudyError(
                f"The ComfyUI at {self.url} has no node {absent[0]}",
                "It needs this pack in custom_nodes",
                "Install the pack there, or start one with `python dev.py serve`",
            )
        return str(stats.get("system", {}).get("comfyui_version", "unknown"))

    def upload(self, path: Path) -> str:
        """Put a file into ComfyUI's input folder, under a name made of its content; that name."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StudyError(
                f"{path} cannot be read ({error.strerror or error})",
                "The plan names it, relative to its own folder",
                "Correct the name in the plan, or put the file there",
            ) from None
        name = f"{hashlib.sha256(content).hexdigest()[:24]}{path.suffix.lower()}"
        boundary = uuid.uuid4().hex
        fields = {"subfolder": FOLDER, "type": "input", "overwrite": "true"}
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in fields.items()
        ]
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        parts += [head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", content, b"\r\n"]
        body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
        answer = self._json("/upload/image", body, f"multipart/form-data; boundary={boundary}")
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else str(answer["name"])

    def run(self, graph: dict) -> dict:
        """Queue a graph and wait for its end -> what its nodes put out. Raises `RunError` where it failed.

        Whatever ends the wait early, such as Ctrl-C, also takes the graph off the queue.
        """
        body = json.dumps({"prompt": graph, "client_id": uuid.uuid4().hex}).encode()
        answer = self._json("/prompt", body, "application/json")
        prompt_id = str(answer["prompt_id"])
        try:
            return self._wait(prompt_id)
        except BaseException as error:
            if not isinstance(error, RunError):
                self._cancel(prompt_id)
            raise

    def fetch(self, file: dict) -> bytes:
        """The bytes of a file that a node put out."""
        query = {
            "filename": file["filename"],
            "subfolder": file.get("subfolder", ""),
            "type": file.get("type", "output"),
        }
        return self._ask(f"/view?{urllib.parse.urlencode(query)}")

    def _wait(self, prompt_id: str) -> dict:
        began = heard = time.monotonic()
        while True:
            try:
                history = self._json(f"/history/{prompt_id}")
                heard = time.monotonic()
            except StudyError:
                if time.monotonic() - heard > PATIENCE:  # it may be busy, or be loading a model
                    raise
                history = {}
            if prompt_id in history:
                return self._outputs(history[prompt_id])
            time.sleep(min(POLL[2], POLL[0] + POLL[1] * (time.monotonic() - began)))

    def _outputs(self, entry: dict) -> dict:
        status = entry.get("status") or {}
        messages = {name: told for name, told in status.get("messages", []) if isinstance(told, dict)}
        if "execution_interrupted" in messages:
            raise StudyError("The run was cancelled in ComfyUI", "It ends by itself", "Start the same command to go on")
        if status.get("status_str") != "success":
            told = messages.get("execution_error", {})
            raise RunError(
                f"{told.get('node_type', 'A node')} failed: {str(told.get('exception_message', 'no message')).strip()}",
                "",
            )
        return entry.get("outputs", {})

    def _cancel(self, prompt_id: str) -> None:
        for path, told in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
            try:
                running = self._json("/queue").get("queue_running", [])
                if path == "/queue" or any(prompt_id in map(str, entry) for entry in running):
                    self._ask(path, json.dumps(told).encode(), "application/json")
            except StudyError:
                return

    def _json(self, path: str, body: bytes | None = None, kind: str = "") -> dict:
        answer = self._ask(path, body, kind)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._gone("it answers as no ComfyUI does")
        return found

    def _ask(self, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": kind} if kind else {})
        try:
            with urllib.request.urlopen(request, timeout=READ_TIMEOUT) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if path == "/prompt" and error.code == 400:
                raise RunError(f"ComfyUI refused the workflow: {_refusal(error.read())}", "") from None
            raise self._gone(f"{path.partition('?')[0]} gives {error.code} {error.reason}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._gone(str(getattr(error, "reason", error))) from None

    def _gone(self, reason: str) -> StudyError:
        return StudyError(
            f"There is no ComfyUI at {self.url} ({reason})",
            "A comparison is made by a running ComfyUI",
            "Start it (`python dev.py serve` starts one), or name its address with --server",
        )


def _refusal(answer: bytes) -> str:
    """Why a workflow was refused, as ComfyUI tells it."""
    try:
        told = json.loads(answer)
        nodes = told.get("node_errors") or {}
        errors = [error for node in nodes.values() for error in node.get("errors", [])]
        texts = [": ".join(filter(None, (e.get("message"), e.get("details")))) for e in errors]
        return "; ".join(texts) or str(told.get("error", {}).get("message", told))
    except (ValueError, AttributeError):
        return answer[:200].decode(errors="replace")
