"""A small client of ComfyUI's HTTP API and WebSocket, on aiohttp, which every host brings."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

FINAL = {"execution_success": "success", "execution_error": "error", "execution_interrupted": "interrupted"}


@dataclass
class Run:
    """What became of one prompt."""

    prompt_id: str
    status: str  # success, error, interrupted or rejected
    seconds: float
    events: list[dict] = field(default_factory=list)  # every JSON message for this prompt, in order
    texts: list[str] = field(default_factory=list)  # texts shown on nodes
    outputs: dict = field(default_factory=dict)  # node id -> what the node showed
    error: dict = field(default_factory=dict)  # of a node that raised, or of a prompt that was refused

    @property
    def message(self) -> str:
        """The error as the person at the screen reads it."""
        if self.status == "rejected":
            nodes = self.error.get("node_errors", {}).values()
            errors = [(e.get("message", ""), e.get("details", "")) for node in nodes for e in node["errors"]]
            return "\n".join(": ".join(filter(None, parts)) for parts in errors) or self.error.get("error", {}).get(
                "message", ""
            )
        return self.error.get("exception_message", "").strip()

    def files(self, node: str, kind: str = "images") -> list[dict]:
        return self.outputs.get(node, {}).get(kind, [])

    def progress(self, node: str) -> list[int]:
        """Values of the progress events of a node."""
        return [e["data"]["value"] for e in self.events if e["type"] == "progress" and e["data"].get("node") == node]


class Client:
    """Talks to one server. Every method is an ordinary blocking call."""

    def __init__(self, url: str):
        self.url = url

    def run(self, prompt: dict, *, on_event: Callable[[dict], bool] | None = None, timeout: float = 300.0) -> Run:
        """Queue a prompt and wait for its end. The prompt is cancelled once `on_event(event)` returns True."""
        return asyncio.run(asyncio.wait_for(self._run(prompt, on_event), timeout))

    def get(self, path: str):
        return asyncio.run(self._get(path))

    def fetch(self, file: dict) -> bytes:
        """The bytes of a file that a node put out."""
        return asyncio.run(self._fetch(file))

    async def _get(self, path: str):
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def _fetch(self, file: dict) -> bytes:
        query = {"filename": file["filename"], "subfolder": file["subfolder"], "type": file["type"]}
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/view", params=query) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def _run(self, prompt: dict, on_event) -> Run:
        started, client_id = time.monotonic(), uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            socket_url = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={client_id}"
            async with session.ws_connect(socket_url, max_msg_size=0) as socket:
                body = {"prompt": prompt, "client_id": client_id}
                async with session.post(f"{self.url}/prompt", json=body) as answer:
                    queued = await answer.json()
                    if answer.status != 200:
                        return Run("", "rejected", time.monotonic() - started, error=queued)
                run = Run(queued["prompt_id"], "", 0.0)
                await self._follow(session, socket, run, on_event)
            run.seconds = time.monotonic() - started
            run.outputs = await self._outputs(session, run.prompt_id)
        return run

    async def _follow(self, session, socket, run: Run, on_event) -> None:
        cancelled = False
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                continue  # previews
            event = json.loads(message.data)
            data = event.get("data") or {}
            if data.get("prompt_id") not in (None, run.prompt_id):
                continue
            run.events.append(event)
            if event["type"] == "aai.message":
                run.texts.append(data["text"])
            if on_event is not None and not cancelled and on_event(event):
                cancelled = True
                async with session.post(f"{self.url}/interrupt", json={}):
                    pass
            if event["type"] in FINAL and data.get("prompt_id") == run.prompt_id:
                run.status = FINAL[event["type"]]
                run.error = data if run.status == "error" else {}
                return
        raise ConnectionError(f"The server closed the connection during prompt {run.prompt_id}")

    async def _outputs(self, session, prompt_id: str) -> dict:
        for _ in range(50):  # the history is written just after the last event
            async with session.get(f"{self.url}/history/{prompt_id}") as answer:
                history = await answer.json()
            if prompt_id in history:
                return history[prompt_id]["outputs"]
            await asyncio.sleep(0.05)
        return {}
