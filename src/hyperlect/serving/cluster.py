"""The service on several machines or processes: the same application under Ray Serve."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

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
    return _deployment(served).bind()


def _deployment(served: Served) -> Any:
    from ray import serve

    replica = serve.ingress(lambda: _app(served))()  # called in each replica, by Ray
    return serve.deployment(
        replica,
        name=NAME,
        max_ongoing_requests=ONGOING,
        graceful_shutdown_timeout_s=served.settings.timeout + 5,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(served.device == "cuda")},
    )


def _app(served: Served) -> FastAPI:
    """Load the model in a replica."""
    from ..hardware import choose_device
    from ..model import HyperX
    from .app import create_app

    model = HyperX.from_pretrained(served.run, device=choose_device(served.device))
    folder = Path(served.run)
    return create_app(model, served.settings, folder if folder.is_dir() else None)


def start(
    served: Served, host: str, port: int, replicas: int | Literal["auto"], blocking: bool = False
) -> None:
    """Run the application on the cluster at RAY_ADDRESS, or on one that is started here.

    Args:
        served: what.
        host, port: where Ray's proxies listen.
        replicas: how many, or "auto" for as many as the load needs, by Ray's defaults.
        blocking: whether to return only when Ctrl-C has ended the service.
    """
    import ray
    from ray import serve

    ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    serve.start(http_options={"host": host, "port": port})
    target = _deployment(served).options(num_replicas=replicas).bind()
    serve.run(target, name=NAME, blocking=blocking)
