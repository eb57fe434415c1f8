"""The service on several machines or processes: the same application under Ray Serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from ..experiment.engines import start_ray
from .schemas import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

NAME = "hyperlect"
ONGOING = 1000
"""How many requests Ray hands to a replica at a time. It must not be few, as Ray's default is: the
replica's own queue puts them into batches, and refuses what is too much."""


class Served(BaseModel):
    """What is served: the ``args`` of an application in a config file of Ray Serve.

    Attributes:
        run: a run folder that all machines see, or a hub id.
        device: "auto", "cpu", "cuda" or "mps".
        settings: limits, token and the like.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    device: str = "auto"
    settings: Settings = Settings()


def application(served: Served) -> Any:
    """Make the application, as ``import_path: hyperlect.serving.cluster:application`` names it.

    Replicas, autoscaling and resources are those of Ray's config file, under the deployment's name,
    "hyperlect". Without any there is one replica, on one CPU, or one GPU if the device is "cuda".
    """
    return _deployment(served, float(served.device == "cuda")).bind()


def _deployment(served: Served, gpus: float) -> Any:
    from ray import serve

    replica = serve.ingress(lambda: _app(served))()  # called in each replica, by Ray
    return serve.deployment(
        replica,
        name=NAME,
        max_ongoing_requests=ONGOING,
        graceful_shutdown_timeout_s=served.settings.timeout + 5,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
    )


def _app(served: Served) -> FastAPI:
    """Load the model in a replica."""
    from ..hardware import choose_device
    from ..model import HyperX
    from ..run_folder import local_run
    from .app import create_app

    run = local_run(Path(served.run))
    model = HyperX.from_pretrained(run, device=choose_device(served.device))
    return create_app(model, served.settings, run, Path(served.run).name)


def start(served: Served, host: str, port: int, replicas: int | Literal["auto"]) -> None:
    """Run the application on a Ray cluster: that at RAY_ADDRESS, else that of `ray start` on this
    machine, else one that is started here.

    It returns when Ctrl-C has ended the service.

    Args:
        served: what.
        host, port: where Ray's proxies listen.
        replicas: how many, or "auto" for as many as the load needs, by Ray's defaults.
    """
    # Ray counts a GPU for each replica, and hides the others from it. A cluster that grows may have
    # none yet.
    _, available = start_ray(None, None, served.device, {})
    gpus = max(available, float(served.device == "cuda"))
    from ray import serve

    serve.start(http_options={"host": host, "port": port})
    target = _deployment(served, gpus).options(num_replicas=replicas).bind()
    serve.run(target, name=NAME, blocking=True)
