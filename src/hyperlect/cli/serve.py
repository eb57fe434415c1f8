"""hyperlect serve."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import cli
from ..errors import HyperlectError
from ..hardware import Arithmetic
from ..run_folder import is_hub_id, local_run, require_run
from . import DeviceOption, libraries, remark
from .predict import load

TOKEN = "HYPERLECT_TOKEN"
GRACE = 5
"""Seconds beyond `--timeout` that a shutdown waits for running requests."""


def serve(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535)] = 8000,
    token: str = "",
    origins: Annotated[list[str], typer.Option("--origin", metavar="URL")] = [],  # noqa: B006
    items: Annotated[int, typer.Option(metavar="N", min=1)] = 64,
    characters: Annotated[int, typer.Option(metavar="N", min=1)] = 10_000,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1)] = 30.0,
    gather: Annotated[float, typer.Option(metavar="MS", min=0)] = 5.0,
    batch_tokens: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    queue_tokens: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    cache: Annotated[int | None, typer.Option(metavar="MIB", min=0)] = None,
    precision: Arithmetic = "auto",
    device: DeviceOption = "auto",
    ray: bool = False,
    replicas: Annotated[str, typer.Option(metavar="N|auto")] = "1",
) -> None:
    """Serve a model over HTTP.

    Requests of many clients, in any tasks and languages, share batches.
    The page is at /, the interface at /openapi.json. On Ctrl-C or SIGTERM
    it answers the requests that it has accepted, then exits.

    \b
    Examples:
      hyperlect serve runs/mine
      hyperlect serve runs/mine --host 0.0.0.0 --port 8080

    Args:
        run: The folder that training made, or a model's id on the hub.
        host: The address to listen at; 0.0.0.0 for all.
        port: 0 chooses a free one.
        token: What clients must send, as Authorization: Bearer TOKEN. Better than this option is
            the variable HYPERLECT_TOKEN, which no list of processes shows. Default: no check.
        origins: A web site whose pages may call the service from a browser (CORS); repeatable.
        items: The most items of a request, each counted once for every task.
        characters: The most characters of an item.
        timeout: How long a request may take.
        gather: How long a request waits for others to share its batch.
        batch_tokens: The most sub-words of a batch. Default: 1024, on a GPU 16384.
        queue_tokens: The most sub-words that wait; beyond, requests get the answer 429. Default:
            8 batches.
        cache: The memory for adapter weights. Default: a quarter of the free memory.
        precision: The arithmetic. auto is bf16 on processors that are fast in it, which moves
            scores by rounding; else fp32.
        ray: Serve on Ray: on the cluster at RAY_ADDRESS, else that of this machine, else on one
            that is started here.
        replicas: With --ray, how many; auto follows the load.
    """
    extras = {"serve": ["fastapi", "uvicorn", "prometheus_client"], "cluster": ["ray"] * ray}
    for extra, packages in extras.items():
        if not all(map(importlib.util.find_spec, packages)):
            hint = f'pip install -e ".[{extra}]" -c constraints.txt'
            raise HyperlectError(f"A package is not installed. Install them in your clone: {hint}")
    if replicas != "auto" and not (replicas.isdecimal() and int(replicas)):
        raise HyperlectError(f'--replicas must be a number or auto, not "{replicas}".')
    if not ray and replicas != "1":
        raise HyperlectError("--replicas needs --ray.")
    # A secret that is mounted as a file often ends with a line break.
    secret = token or os.environ.get(TOKEN, "")  # typer 0.26.0 would not read it
    token = secret.strip()
    if secret and not token:
        raise HyperlectError(f"The token is empty (--token, {TOKEN}).")
    from pydantic import SecretStr

    from ..serving.schemas import Settings

    settings = Settings(
        items=items,
        characters=characters,
        timeout=timeout,
        gather=gather,
        batch_tokens=batch_tokens,
        queue_tokens=queue_tokens,
        cache_bytes=None if cache is None else cache * 2**20,
        precision=precision,
        token=SecretStr(token) if token else None,
        origins=tuple(origins),
    )
    if ray:
        from ..serving import cluster

        if not is_hub_id(run) or Path(run).is_dir():
            run = str(require_run(Path(run), finished=True, recipe=False).resolve())
        served = cluster.Served(run=run, device=device, settings=settings)
        count: Any = replicas if replicas == "auto" else int(replicas)
        remark(f"Starting Ray Serve; {run} will be at http://{host}:{port} (Ctrl-C ends it).")
        cluster.start(served, host, port, count)
        return
    folder = local_run(Path(run))
    model = load(str(folder), device)
    with libraries():
        import uvicorn

        from ..serving.app import create_app
    app = create_app(model, settings, folder, Path(run).name)

    class Server(uvicorn.Server):  # type: ignore[misc]
        """Says where it listens, once it does."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            for server in self.servers if self.started else ():
                address, bound, *_ = server.sockets[0].getsockname()
                remark(f"Serving {run} at http://{address}:{bound} (Ctrl-C ends it).")

    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="info" if cli.verbosity > 0 else "warning",
        access_log=cli.verbosity > 0,
        timeout_graceful_shutdown=int(timeout) + GRACE,
        server_header=False,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn passes it on when all is finished
        Server(config).run()
