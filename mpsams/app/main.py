"""The command line of the web app: options, accounts and sockets; serves until interrupted."""

from __future__ import annotations

import argparse
import getpass
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from mpsams.annotation.project import Project
from mpsams.app.application import MAX_UPLOAD, ServerOptions
from mpsams.app.process import Settings, default_uploads, open_app
from mpsams.app.server import accounts, listen, workers
from mpsams.app.server.hosts import Hosts
from mpsams.app.server.logs import configure_logging
from mpsams.arguments import Parser
from mpsams.inference import cores

ABOUT = "The MPS-AMS web app: see how patches are chosen and hidden, filled in, and how a lesion is outlined."
EXAMPLES = """
examples:
  python app.py                           open http://127.0.0.1:7860 in a browser
  python app.py --weights runs/mine       other checkpoints (*.safetensors); without any, Masking still works
  python app.py --results runs/table1     other records (*.jsonl) for the Results tab
  python app.py --project breasts         annotate the images of a project, a folder; created if it does not exist
  python app.py --login people --add-login anne   write an account into the file "people"; the password is asked for
  python app.py --login people --host 0.0.0.0     answer to other computers, with accounts; behind a proxy with TLS
  python app.py --workers 4               many visitors: four processes answer, each visitor stays with one
  python app.py --allowed-host annotate.example.org     answer to the host name of a proxy

The page fetches nothing from the internet and sends nothing there. /healthz answers when the app is up. Before you let
others in, read docs/deploy/security.md.
"""


def size(text: str) -> int:
    """Return the bytes of a size such as "300mb" or "1gb"."""
    found = re.fullmatch(r"(\d{1,5}) ?(mb|gb)", text.strip().lower())
    bytes_ = int(found[1]) * {"mb": 2**20, "gb": 2**30}[found[2]] if found else 0
    if not 2**20 <= bytes_ <= 16 * 2**30:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed are sizes from 1mb to 16gb")
    return bytes_


def gib(text: str) -> int:
    """Return the bytes of a number of GiB, such as "1.5"."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.25 <= found <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed are 0.25 to 4096, in GiB")
    return int(found * 2**30)


def add_login(path: Path, name: str) -> None:
    """Ask twice for a password and write the account. ValueError where they differ, or one is not allowed."""
    if not accounts.is_name(name):
        raise ValueError(f"name {name!r}; allowed are 1 to 64 printable characters without colon and space")
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise ValueError("the two passwords differ")
    accounts.add(path, name, password)


def shipped(name: str) -> Path:
    """Return the folder of this name that comes with the app: in the installed package, else beside app.py."""
    package = Path(str(resources.files("mpsams")))
    return package / name if (package / name).is_dir() else package.parent / name


def build_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=ABOUT, epilog=EXAMPLES)
    parser.add_argument(
        "--weights",
        type=Path,
        default=shipped("weights"),
        metavar="DIR",
        help="folder of checkpoints (default: those that come with the app)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=shipped("results"),
        metavar="DIR",
        help="folder of records (default: those that come with the app)",
    )
    parser.add_argument(
        "--project",
        type=Path,
        metavar="DIR",
        help="folder of annotations for the Annotate tab; whoever can open the page can work on it",
    )
    parser.add_argument(
        "--login", type=Path, metavar="FILE", help="require an account of this file (default: no accounts)"
    )
    parser.add_argument(
        "--add-login", metavar="NAME", help="ask for a password, write an account into the file of --login, and exit"
    )
    _add_limits(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help=(
            "address to listen on (default: 127.0.0.1, this computer only); for others put a proxy with TLS in front"
            " of it"
        ),
    )
    named = (
        "a host name under which the page is opened, besides localhost, the address and the name of this computer; may"
        " be repeated; * for any name"
    )
    parser.add_argument("--allowed-host", action="append", default=[], metavar="NAME", help=named)
    parser.add_argument(
        "--metrics",
        action="store_true",
        help="answer at /metrics, in Prometheus' text format, to whoever can reach the app (default: no such page)",
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    return parser


def _add_limits(parser: Parser) -> None:
    """Add the options of what visitors may take, and of the processes that answer them."""
    limit = "largest size of all files of an upload, such as 300mb (default: 1gb)"
    parser.add_argument("--max-upload", type=size, default=MAX_UPLOAD, metavar="SIZE", help=limit)
    limit = "memory for the images of all visitors together, in GiB (default: half of what is available)"
    parser.add_argument("--memory", type=gib, metavar="GIB", help=limit)
    limit = "disk space for their decoded volumes in the temporary folder, in GiB (default: half of what is free)"
    parser.add_argument("--scratch", type=gib, metavar="GIB", help=limit)
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help=(
            "processes that answer, for many visitors on several cores; each takes about 1 GiB and its part of --memory"
            " and --scratch (default: 1)"
        ),
    )


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line; ends the program where one is not allowed."""
    options = parser.parse_args(argv)
    if not 0 < options.port < 65536:
        parser.error(f"port {options.port} must lie between 1 and 65535")
    if not 1 <= options.workers <= workers.MAX_WORKERS:
        parser.error(f"--workers {options.workers}; allowed are 1 to {workers.MAX_WORKERS}")
    if options.workers > 1 and not workers.POSSIBLE:
        parser.error("--workers: this system cannot hand connections to other processes; leave it out")
    if options.add_login is not None and options.login is None:
        parser.error("--add-login needs --login FILE, the file to write into")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and serve the app until interrupted."""
    parser = build_parser()
    options = parse(parser, argv)
    configure_logging()
    cores.limit_to_one_core()
    try:
        if options.add_login is not None:
            add_login(options.login, options.add_login)
            return
        people = None if options.login is None else accounts.read(options.login)
    except (ValueError, OSError) as error:
        parser.error(f"--login: {error}")
    try:
        project = None if options.project is None else Project(options.project)
    except (ValueError, OSError) as error:
        parser.error(f"--project: {error}")
    try:
        sockets = listen.listen(options.host, options.port)
        hosts = Hosts([options.host, *(one.getsockname()[0] for one in sockets)], options.allowed_host)
    except ValueError as error:
        parser.error(str(error))
    server = ServerOptions(people, hosts, options.max_upload, options.metrics)
    uploads = default_uploads(options.port)
    settings = Settings(options.weights, options.results, uploads, options.memory, options.scratch, server)

    def ready() -> None:
        address = f"[{options.host}]" if ":" in options.host else options.host
        print(f"MPS-AMS is at http://{address}:{options.port} (Ctrl+C stops it)", flush=True)

    try:
        if options.workers > 1:
            workers.serve(options.workers, settings, project, sockets, ready)
            return
        with open_app(settings, project) as app:
            try:
                listen.serve(app, sockets, ready)
            except OSError as error:
                parser.error(listen.why(error, options.host, options.port))
    except workers.WorkerEnded as error:
        parser.error(f"--workers: {error}; the lines above say why")
