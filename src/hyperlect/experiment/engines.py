"""What carries out the runs of an experiment: this process, several processes, or a Ray cluster.

An engine takes one run at a time with `Engine.submit` and returns a future. `work` is what all of
them do with it: it takes the run's lock, trains or resumes, evaluates, and never raises.
"""

from __future__ import annotations

import gc
import io
import logging
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, cast

from rich.console import Console

from ..errors import HyperlectError, Interrupted, RunError
from ..run_folder import ERROR, RunState, locked, run_state, write_text
from .manifest import clear
from .plan import Run

DEVICES = "CUDA_VISIBLE_DEVICES"
GRACE = 30
"""Seconds that a worker process has to save once the process that started it is gone."""


class Ended(NamedTuple):
    """How the work on a run ended.

    Attributes:
        state: done or failed; `RunState.INTERRUPTED` if it was asked to stop, and
            `RunState.MISSING` if it could not be begun.
        text: the same for people.
    """

    state: RunState
    text: str


class Engine:
    """Carries out one run after the other in this process; and what all engines share.

    Attributes:
        places: how many runs it takes at a time.
        verb: what has happened to a run that it took.
    """

    places = 1
    verb = "started"

    def __init__(self, device: str = "auto") -> None:
        self.device = device

    def submit(self, run: Run) -> Future[Ended]:
        """Begin the work on a run. In this process, it is done when its future is returned."""
        future: Future[Ended] = Future()
        future.set_result(work(run, self.device))
        if future.result().state is RunState.INTERRUPTED:
            signal.raise_signal(signal.SIGINT)  # the run took the signal; the runner needs it too
        return future

    def stop(self, at_once: bool = False) -> None:
        """Ask the runs at work to save and stop, or end them. Signals reach this process itself."""

    def close(self) -> None:
        """Give back what the engine holds. Nothing is at work any more."""


def work(run: Run, device: str) -> Ended:
    """Do whatever of a run remains to be done. SIGINT and SIGTERM stop it; errors do not get out.

    What a failed run has printed is kept in the error.txt of its folder.
    """
    output = io.StringIO()
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run.folder))
        except RunError as error:
            if error.__cause__ is not None:  # the folder cannot be written
                return fail(run, str(error))
            return Ended(RunState.MISSING, "skipped, because another process is working on it")
        try:
            stop = on_signals(signal.default_int_handler)
            with stop, redirect_stdout(output), redirect_stderr(output):
                return _carry_out(run, device, Console(file=output, width=100))
        except (Interrupted, KeyboardInterrupt):
            return Ended(RunState.INTERRUPTED, "stopped; the same command resumes it")
        except Exception as error:
            trace = "" if isinstance(error, HyperlectError) else traceback.format_exc()
            return fail(run, str(error) or type(error).__name__, output.getvalue() + trace)
        finally:
            gc.collect()  # or else this run's model fills the memory that the next one needs


def _carry_out(run: Run, device: str, console: Console) -> Ended:
    from ..evaluation import evaluate_run
    from ..recipe import load_recipe
    from ..training import resume, start
    from ..training.checkpoint import drop_checkpoints

    began, state = time.monotonic(), run_state(run.folder)
    if state in (RunState.DONE, RunState.FAILED):
        return Ended(state, f"{state} by another process in the meantime")
    # Not the recipe in the run folder: the data may have moved since it was written.
    recipe = load_recipe(run.file, run.overrides, check_files=state is not RunState.TRAINED)
    if state is RunState.MISSING:
        clear(run.folder)
        start(recipe, run.folder, device, console)
    elif state is RunState.INTERRUPTED:
        resume(run.folder, device, console, recipe)
    evaluate_run(run.folder, device=device, console=console, recipe=recipe)
    drop_checkpoints(run.folder)  # larger than all the rest, and of no more use
    return Ended(RunState.DONE, f"done in {timedelta(seconds=round(time.monotonic() - began))}")


def fail(run: Run, message: str, output: str = "") -> Ended:
    """Note in the error.txt of a run's folder, as far as the disk allows, why it failed."""
    changes = "".join(f" --set {shlex.quote(change)}" for change in run.overrides)
    command = f"The same by hand: hyperlect train {run.file} --out RUN{changes}"
    path = run.folder / ERROR
    try:
        write_text(path, f"{run.name} failed: {message}\n\n{output}\n{command}\n")
    except RunError:
        return Ended(RunState.FAILED, f"failed; {message}")
    return Ended(RunState.FAILED, f"failed; see {path}")


@contextmanager
def on_signals(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM inside the block, which works in the main thread alone.

    SIGHUP, sent when the terminal closes, is passed on as SIGTERM, which training understands; it
    stays ignored where it is, as under nohup.
    """
    handlers: dict[int, Any] = {signal.SIGINT: handler, signal.SIGTERM: handler}
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        handlers[hangup] = lambda *_: signal.raise_signal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, new) for number, new in handlers.items()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Share(NamedTuple):
    """The part of the machine that one of several processes uses.

    Attributes:
        threads: for arithmetic on the processor; None for as many as OMP_NUM_THREADS says.
        gpu: the GPU, as CUDA_VISIBLE_DEVICES names it; empty for all of them.
    """

    threads: int | None = None
    gpu: str = ""


class Processes(Engine):
    """Carries out several runs at a time, each in a process of its own.

    Every process is a pool of one: in a pool of several, the death of one would end the others.

    Args:
        shares: what each of the processes uses; their number is how many run at a time.
        device: where to compute.
    """

    def __init__(self, shares: Sequence[Share], device: str = "auto") -> None:
        self.places, self.device = len(shares), device
        self._slots = [_Slot(share) for share in shares]

    def submit(self, run: Run) -> Future[Ended]:
        """Begin the work on a run in a process that is free."""
        slot = next(slot for slot in self._slots if slot.is_free)
        try:
            slot.future = slot.pool.submit(work, run, self.device)
        except BrokenProcessPool:  # its process was killed
            slot.start()
            slot.future = slot.pool.submit(work, run, self.device)
        return slot.future

    def stop(self, at_once: bool = False) -> None:
        """Ask the processes at work to save and stop; or end them."""
        for slot in self._slots:
            if not slot.is_free:
                slot.orders.send(at_once)

    def close(self) -> None:
        """End the processes."""
        for slot in self._slots:
            slot.pool.shutdown()


class _Slot:
    """A process with its share of the machine, and the run that it works on."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.future: Future[Ended] | None = None
        self.start()

    def start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._orders, self.orders = spawn.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(1, spawn, _prepare, (self._orders, *self.share))

    @property
    def is_free(self) -> bool:
        return self.future is None or self.future.done()


def _prepare(orders: Connection, threads: int | None, gpu: str) -> None:
    """Set up a process for one run: its share of the machine, and how it is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the runner, which passes it on
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # nothing is at work
    if gpu:
        os.environ[DEVICES] = gpu
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    threading.Thread(target=_obey, args=(orders,), daemon=True).start()


def _obey(orders: Connection) -> None:
    """Stop this process on order, or when the process that gives orders is gone."""
    with suppress(EOFError, OSError):
        while not orders.recv():
            interrupt_main(signal.SIGTERM)
        os._exit(1)
    for _ in range(GRACE):
        interrupt_main(signal.SIGTERM)
        time.sleep(1)
    os._exit(1)


def start_ray(
    address: str | None, gpus: float | None, device: str, variables: Mapping[str, str]
) -> tuple[Any, float]:
    """Enter a Ray cluster.

    Args:
        address: of the cluster, as `ray.init` takes it; "local" starts one on this machine.
        gpus, device, variables: as for `RayCluster`.

    Returns:
        The module of Ray, and how many GPUs a run or worker gets.

    Raises:
        HyperlectError: Ray is not installed, or there is no cluster at the address, or it has
            fewer GPUs.
    """
    try:
        import ray
    except ImportError:
        hint = 'Install it in your clone: pip install -e ".[cluster]" -c constraints.txt'
        raise HyperlectError(f"Ray is not installed. {hint}") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address, runtime_env={"env_vars": dict(variables)}, **options)
    except (ConnectionError, ValueError, ray.exceptions.RayError) as error:
        hint = "If it wants a token, set RAY_AUTH_MODE=token."
        where = f"at {address}" if address else "can be entered"
        raise HyperlectError(f"No Ray cluster {where}: {error}. {hint}") from error
    available = ray.cluster_resources().get("GPU", 0.0)
    if gpus is None:
        gpus = min(available, 1.0) if device != "cpu" else 0.0
    if gpus > available:  # Ray would wait for ever
        ray.shutdown()
        raise HyperlectError(f"The Ray cluster has {available:g} GPUs; a run needs {gpus:g}.")
    return ray, gpus


class RayCluster(Engine):
    """Carries out runs on the machines of a Ray cluster, as many at a time as have room there.

    Ray queues what has no room yet. If a run's process or machine dies, Ray tries the run again,
    from its last checkpoint.

    Args:
        address: of the cluster, as `ray.init` takes it; "local" starts one on this machine.
        gpus: how many GPUs a run gets, a fraction too; None for one if the cluster has any.
        device: where to compute.
        variables: environment variables that the runs need.

    Raises:
        HyperlectError: Ray is not installed, or there is no cluster at the address.
    """

    places = sys.maxsize
    verb = "submitted"

    def __init__(
        self, address: str, gpus: float | None, device: str, variables: Mapping[str, str]
    ) -> None:
        ray, gpus = start_ray(address, gpus, device, variables)
        self._ray, self.device = ray, device
        self._work = ray.remote(work).options(num_gpus=gpus)
        self._refs: list[Any] = []

    def submit(self, run: Run) -> Future[Ended]:
        """Queue a run."""
        self._refs.append(self._work.remote(run, self.device))
        return cast(Future[Ended], self._refs[-1].future())

    def stop(self, at_once: bool = False) -> None:
        """Ask the runs at work to save and stop, or end them; what is queued is dropped."""
        for ref in self._refs:
            self._ray.cancel(ref, force=at_once)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def make_engine(
    device: str = "auto",
    processes: int | None = None,
    ray: str | None = None,
    gpus_per_run: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> Engine:
    """Choose an engine.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        processes: how many runs at a time on this machine; None for one after the other in this
            process, or where there are several GPUs, for one process a GPU.
        ray: the address of a Ray cluster, or "local"; see `RayCluster`.
        gpus_per_run, variables: for Ray.

    Raises:
        HyperlectError: these options exclude each other, or Ray cannot be used.
    """
    if ray is not None:
        if processes is not None:
            raise HyperlectError("Choose one of --processes and --ray: Ray decides how many run.")
        return RayCluster(ray, gpus_per_run, device, variables or {})
    if gpus_per_run is not None:
        raise HyperlectError("--gpus-per-run needs --ray. Without Ray, share GPUs by --processes.")
    several = shares(processes, device)
    return Engine(device) if processes is None and len(several) == 1 else Processes(several, device)


def shares(processes: int | None, device: str) -> list[Share]:
    """Divide the machine among processes: the cores evenly, the GPUs in turn.

    Args:
        processes: how many; None for one a GPU, and one where there is none.
        device: "auto", "cpu", "cuda" or "mps".
    """
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    names = [name.strip() for name in os.environ.get(DEVICES, "").split(",") if name.strip()]
    gpus = names[:count] or [str(number) for number in range(count)]
    processes = processes or max(1, len(gpus))
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    threads = None if os.environ.get("OMP_NUM_THREADS") else max(1, cores // processes)
    several = gpus if len(gpus) > 1 else [""]
    return [Share(threads, several[number % len(several)]) for number in range(processes)]
