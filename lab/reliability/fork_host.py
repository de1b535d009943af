"""A ComfyUI that has started and makes a copy of itself for each prompt, so that a copy can be killed and the next is there.

Runs in a host's Python with its tree as the working folder. Each line of standard input is {"graph", "result"}: a copy runs
the graph as the server's worker does and writes what became of it into the file `result`. Standard output gets a line with
the copy's process id, and a line with its exit code when it has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid

NO_CACHE = {
    "lru": 0,
    "ram": 0.0,
    "ram_inactive": 0.0,
}  # limits that the host's executor asks for, of kinds not used here


def start():
    """What the host's own main.py does before it listens; its server object."""
    import main

    _, server, _ = main.start_comfyui()
    return server


def worker(server):
    """The executor that the server's worker would have. Copies inherit what it keeps: the models of the first prompt."""
    import execution

    return execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC, cache_args=NO_CACHE)


def run(server, executor, graph: dict) -> dict:
    """Validate and execute one prompt in this process."""
    import execution

    messages: list = []
    server.send_sync = lambda event, data, sid=None: messages.append([event, _plain(data)])
    server.client_id, server.last_node_id = "reliability", None
    number = uuid.uuid4().hex
    valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(number, graph, None))
    if not valid:
        return {"status": "rejected", "error": [error, {key: e["errors"] for key, e in node_errors.items()}]}
    executor.execute(graph, number, {}, outputs)
    failed = [_plain(data) for event, data in executor.status_messages if event == "execution_error"]
    texts = [data["text"] for event, data in messages if event == "aai.message"]
    shown = _plain(executor.history_result.get("outputs", {}))
    return {"status": "success" if executor.success else "error", "error": failed, "texts": texts, "outputs": shown}


def _plain(data):
    return json.loads(json.dumps(data, default=str))


def renew_pool() -> None:
    """Have torch make the thread pool of this copy now.

    A copy's pool has lost its threads, so torch makes another at the next use. Two threads that come first together, as
    those that read pictures do, race there: one finds none, "Invalid thread pool!".
    """
    import torch

    torch.set_num_threads(1)


def serve(server, executor) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what nodes print must not come between the answers
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                renew_pool()
                with open(job["result"], "w", encoding="utf-8") as file:
                    json.dump(run(server, executor, job["graph"]), file)
                code = 0
            finally:
                os._exit(code)
        answers.write(f"{pid}\n")
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the host's modules, and not those beside this file
    import torch

    torch.set_num_threads(1)  # threads of a pool do not live on in a copy
    loudspeaker = os.dup(1)
    os.dup2(2, 1)
    instance = start()
    kept = worker(instance)
    run(instance, kept, json.loads(os.environ["AAI_WARM"]))
    os.dup2(loudspeaker, 1)
    os.write(1, b"ready\n")
    serve(instance, kept)
