"""The commands of dev.py. Standard library only; what needs aiohttp or PyTorch runs in the host's own Python."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import device, external, frontend
from .browser import NO_BROWSER, ensure_browser
from .hosts import DEFAULT_VERSION, RECIPES, ROOT, Host, ensure_host
from .report import DevError, say
from .server import DIES_WITH_PARENT

MOST_PROCESSES = 4  # of a test run; each holds a ComfyUI and starts another, some 4 GB together


def _run_in_host(host: Host, arguments: list[str], **options) -> int:
    """Run the host's Python and hand back its exit code; Ctrl-C reaches the child, which cleans up before it ends."""
    process = subprocess.Popen([host.python, *arguments], **DIES_WITH_PARENT, **options)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def command_host(options) -> int:
    host = ensure_host(options.host)
    print(host.to_json() if options.print else f"ComfyUI {host.version} is ready: {host.comfyui}")
    return 0


def command_demo(options, rest: list[str]) -> int:
    host = ensure_host(options.host)
    arguments = ["-m", "devtools.demo", "--host", options.host, "--out", str(Path(options.out).resolve())]
    if options.sounds:
        arguments += ["--sounds", str(Path(options.sounds).resolve())]
    arguments += ["--models", options.models]
    return _run_in_host(host, [*arguments, *rest], cwd=ROOT)


def command_test(options, rest: list[str]) -> int:
    host = ensure_host(options.host, development=True)
    device.choose(host, options.device, options.dynamic, options.host_options)
    # pytest runs inside the ComfyUI tree, so that `import nodes` is the host's module and never this repository's.
    paths = [str(Path(a).resolve()) if Path(a.partition("::")[0]).exists() else a for a in rest]
    named = any(Path(a.partition("::")[0]).exists() for a in rest)
    arguments = ["-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    arguments += ["--aai-host", options.host, *paths]
    if not named:
        tests = ROOT / "tests"
        arguments += [*_on_all_cores(options), str(tests / "host" if options.device == "emulated" else tests)]
    if options.browser or (not named and options.device != "emulated"):
        arguments += _with_browser(options)
    return _run_in_host(host, arguments, cwd=host.comfyui)


def _on_all_cores(options) -> list[str]:
    """Whole files shared among processes, each on a core of its own; a GPU has room for one process. pytest's arguments."""
    count = min(os.cpu_count() or 1, MOST_PROCESSES)
    if options.device == "cuda" or count == 1:
        return []
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of several processes on one core wait for each other
    return ["--numprocesses", str(count), "--dist", "loadfile"]


def _with_browser(options) -> list[str]:
    """See that the tests of the editor have their browser, and say so where they have none; pytest's arguments."""
    if options.host != DEFAULT_VERSION and not options.path and not options.browser:
        return []
    try:
        if ensure_browser() is None:
            raise DevError(NO_BROWSER)
    except DevError as error:
        if options.browser:
            raise
        say(str(error))
    return ["--aai-browser"] if options.browser else []


def command_serve(options) -> int:
    from .server import Server, Workspace

    host = ensure_host(options.host)
    folder = Path(options.folder).resolve() if options.folder else None
    with Workspace(folder) as workspace, Server(host, workspace, port=options.port, echo=True) as server:
        print(f"ComfyUI {host.version} with the pack: {server.url} (folder {workspace.root}; Ctrl-C stops it)")
        server.wait()
    return 0


def command_registry(options) -> int:
    from . import registry

    if bool(options.repository) != bool(options.ref):
        raise DevError("--repository and --ref belong together: OWNER/NAME, and a tag or branch of it.")
    if options.changes:
        print(registry.changes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
        return 0
    if options.repository:
        registry.prepare(options.repository, options.ref)
        return 0
    return registry.validate()


def command_generate(options) -> int:
    host = ensure_host(options.host)
    return _run_in_host(host, ["-m", "devtools.generate", "--host", options.host], cwd=ROOT)


def command_screenshots(options) -> int:
    if ensure_browser() is None:
        raise DevError(NO_BROWSER)
    host = ensure_host(options.host, development=True)
    return _run_in_host(host, ["-m", "devtools.screenshots", "--host", options.host], cwd=ROOT)


def command_bench(options, rest: list[str]) -> int:
    host = ensure_host(options.host, development=True)
    device.choose(host, options.device, options.dynamic)
    arguments = ["-m", "lab.bench", "--host", options.host, *([options.name] if options.name else []), *rest]
    if options.json:
        arguments += ["--json", str(Path(options.json).resolve())]
    return _run_in_host(host, arguments, cwd=ROOT)


def command_reliability(options) -> int:
    host = ensure_host(options.host, development=True)
    arguments = ["-m", "lab.reliability", options.command, "--host", options.host]
    if hasattr(options, "device"):
        device.choose(host, options.device, options.dynamic)
    for name in ("minutes", "count", "seed", "group"):
        if getattr(options, name, None) is not None:
            arguments += [f"--{name}", str(getattr(options, name))]
    if getattr(options, "picture", None):
        arguments += ["--picture", str(Path(options.picture).resolve())]
    return _run_in_host(host, arguments, cwd=ROOT)


def _add_device(sub: argparse.ArgumentParser, devices: tuple[str, ...]) -> None:
    sub.add_argument("--device", choices=devices, default="cpu", help="what ComfyUI computes on (%(default)s)")
    sub.add_argument(
        "--dynamic",
        choices=("default", "off"),
        default="default",
        help=f"weights on a GPU: as ComfyUI does by itself, or off ({device.NOT_DYNAMIC})",
    )


def _add_reliability(add) -> None:
    soak = add("soak", "one server under load: all examples in random order, trainings, a large batch")
    soak.add_argument(
        "--minutes", type=float, default=20.0, help="how long, unless all counts are reached (%(default)s)"
    )
    soak.add_argument("--picture", help="also draw memory and processor time into this PNG")
    chaos = add("chaos", "kill and cancel at random moments, and look at what is left")
    chaos.add_argument(
        "--minutes", type=float, default=20.0, help="how long, unless all counts are reached (%(default)s)"
    )
    chaos.add_argument("--seed", type=int, default=20, help="of the moments (%(default)s)")
    fuzz = add("fuzz", "damaged files, odd prompts and wrong values")
    fuzz.add_argument("--count", type=int, default=10_000, help="inputs (%(default)s)")
    fuzz.add_argument("--seed", type=int, default=20, help="of the inputs (%(default)s)")
    flags = add("flags", "examples under each option with which people start ComfyUI")
    flags.add_argument(
        "--group", choices=("memory", "attention", "types", "caches", "files"), help="some of the options"
    )
    _add_device(flags, device.DEVICES)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        own = external.current()  # a process that was started with --path passes its version on
        known = [*RECIPES, own.version] if own else RECIPES
        sub.add_argument("--host", default=DEFAULT_VERSION, choices=known, help="ComfyUI version (%(default)s)")
        sub.add_argument(
            "--path", help="use the ComfyUI in this folder instead, whatever its version; nothing is written there"
        )
        sub.add_argument(
            "--python", help="the Python of --path (default: its venv, the portable one, or the active one)"
        )
        sub.add_argument("--frontend", metavar="VERSION", help="another front end, from the package index")
        return sub

    host = add("host", "build a ComfyUI host and nothing else")
    host.add_argument("--print", action="store_true", help="print its version, python and folder as JSON")
    demo = add("demo", "run every example workflow in a real ComfyUI and write a page with the results")
    demo.add_argument("--out", default="demo", help="folder for report.json and index.html (%(default)s)")
    demo.add_argument("--sounds", help="with stand-ins: a folder with recordings of your own")
    demo.add_argument(
        "--models", choices=("pocket", "stand-ins"), default="pocket", help="the pack's small models, or random ones"
    )
    test = add("test", "run the whole test suite; further arguments go to pytest")
    test.add_argument("--browser", action="store_true", help="fail, not skip, where no browser can open the editor")
    _add_device(test, device.DEVICES)
    test.add_argument(
        "--host-options", default="", help="more of ComfyUI's options: --host-options='--use-split-cross-attention'"
    )
    serve = add("serve", "start ComfyUI with the pack linked in, to look at in a browser")
    serve.add_argument("--port", type=int, default=8188, help="port on this machine (%(default)s)")
    serve.add_argument("--folder", help="keep models, input and output in this folder (default: a temporary one)")
    add("screenshots", "write a picture of each node for its help page, and of the editor for README")
    add("generate", "write the editor's copies of the examples, the schema snapshot, help pages for other languages")
    registry = commands.add_parser("registry", help="check with the registry's own tool what would be published")
    registry.add_argument("--repository", help="instead: write README and addresses for the page of OWNER/NAME there")
    registry.add_argument("--ref", help="tag or branch that the page's links lead to")
    registry.add_argument("--changes", action="store_true", help="instead: print the newest part of CHANGELOG.md")
    bench = add("bench", "run the benchmarks, peers beside us")
    bench.add_argument("name", nargs="?", help="one benchmark (default: all)")
    _add_device(bench, device.MEASURED)
    bench.add_argument("--json", help="also write the figures to this file")
    _add_reliability(add)
    return parser


def _choose_host(options) -> None:
    """Take the host and front end that were named, here and in every process that is started from here."""
    if options.path:
        options.host = external.choose(options.path, options.python).version
    elif options.python:
        raise DevError("--python names the Python of a ComfyUI that is already there. Name its folder with --path.")
    elif external.current():
        options.host = external.current().version
    if options.frontend:
        frontend.choose(options.frontend)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run the command, and turn a known failure into one line on stderr."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options, rest = _parser().parse_known_args(arguments)
    commands = {
        "host": command_host,
        "serve": command_serve,
        "generate": command_generate,
        "screenshots": command_screenshots,
        "registry": command_registry,
    }
    takes_rest = {"test": command_test, "demo": command_demo, "bench": command_bench}
    try:
        _choose_host(options)
        if options.command in takes_rest:
            return takes_rest[options.command](options, rest)
        if rest:
            raise DevError(f"Unknown arguments: {' '.join(rest)}. See `dev.py {options.command} --help`.")
        return commands.get(options.command, command_reliability)(options)
    except DevError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
