"""A checkpoint folder of the released code → a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backbone import Backbone, load_backbone
from ..errors import BackboneError, Problems, RunError
from ..model import HyperX
from ..run_folder import write_json
from ..tasks import TaskType
from .arguments import LABELS, UNSEEN, ReleasedArguments, read_arguments
from .build import from_released
from .checkpoint import Checkpoint, find_checkpoint
from .names import ENCODER, label_counts, same, without_repeats

ORIGIN, FORMAT_VERSION = "converted.json", 1


@dataclass(frozen=True)
class Conversion:
    """What came of converting a checkpoint.

    Attributes:
        model: as the run holds it.
        unread: the pickles beside the weights, which were not read.
        assumed: arguments that were not given, and whose defaults in the released code, which were
            taken for them, fit any weights.
    """

    model: HyperX
    unread: tuple[Path, ...]
    assumed: Mapping[str, Any]

    @property
    def task(self) -> str:
        """A task to predict with."""
        tasks = self.model.tasks
        return next((name for name in tasks if tasks[name].type is not TaskType.MLM), "TASK")


def convert_checkpoint(
    folder: Path,
    run: Path,
    backbone: str | None = None,
    revision: str | None = None,
    arguments: Path | None = None,
    changes: Sequence[str] = (),
) -> Conversion:
    """Turn a checkpoint folder of the released code into a run folder.

    Args:
        folder: the checkpoint. Its tensors are read with torch's ``weights_only`` reader, its
            pickled arguments never.
        run: the folder to make; it must not exist yet, or be empty.
        backbone: the encoder it was trained on: a hub id or a folder. By default the argument
            ``model_name_or_path``.
        revision: of the encoder on the hub.
        arguments: a JSON or YAML file of the released code's arguments.
        changes: ``key=value`` arguments, which come after the file.

    Raises:
        RunError: the run folder is in use, arguments are unknown or missing, or the tensors are
            not those of such a model on this encoder; every fault is named.
        BackboneError: the encoder cannot be loaded, or is no BERT.
    """
    if run.is_file() or (run.is_dir() and any(run.iterdir())):
        raise RunError(f"{run} is in use: remove it, or name another folder with --out.")
    checkpoint = find_checkpoint(folder)
    given = read_arguments(arguments, changes, checkpoint.hint)
    loaded = _load_backbone(given, backbone, revision)
    state = without_repeats(checkpoint.tensors(given.tasks), given.model_dump())
    model = _build(given, loaded, state)
    model.save_pretrained(run)
    _write_origin(run, checkpoint, given)
    assumed = {key: getattr(given, key) for key in UNSEEN if key not in given.model_fields_set}
    return Conversion(model, checkpoint.pickles, {} if given.no_hypernet else assumed)


def _load_backbone(
    arguments: ReleasedArguments, reference: str | None, revision: str | None
) -> Backbone:
    reference = reference or arguments.model_name_or_path
    if not reference:
        raise RunError("Name the encoder that the checkpoint was trained on: --backbone ID|FOLDER.")
    folder = Path(reference).expanduser()
    if folder.is_dir():
        reference = str(folder.absolute())  # the run may be used from anywhere
    loaded = load_backbone(reference, revision)
    if loaded.family.model_type != "bert":
        raise BackboneError(
            f"{reference} is {loaded.family.title}. The released code has BERT alone."
        )
    if "mlm" in arguments.tasks and loaded.mlm_start is None:
        raise BackboneError(
            f"{reference} brings no whole MLM head, without which a run cannot tell what the head "
            "of mlm computes. Name the encoder as it was published, or save it as "
            "BertForMaskedLM."
        )
    return loaded


def _build(arguments: ReleasedArguments, loaded: Backbone, state: dict[str, Tensor]) -> HyperX:
    """Build the model, and hold its encoder against the backbone's."""
    counts = label_counts(state)
    _check_labels(arguments, counts)
    encoder: Any = loaded.encoder
    config = {**encoder.config.to_dict(), "num_labels": counts}
    given = {**arguments.model_dump(), "model_name_or_path": loaded.reference}
    model = from_released(given, config, state)
    model.backbone.revision, model.backbone.digest = loaded.revision, loaded.digest
    if not _norms_differ(model.backbone, loaded):
        for _, parameter in model.backbone.layer_norms():
            parameter.requires_grad_(False)
        model.config = replace(model.config, train_layer_norms=False)
    return model


def _check_labels(arguments: ReleasedArguments, counts: Mapping[str, int]) -> None:
    """Raise `RunError` with every task whose labels are not as many as its head scores."""
    problems = Problems()
    for task, count in counts.items():
        known = arguments.labels.get(task, LABELS.get(task, ()))
        if task in arguments.tasks and len(known) != count:
            whose = "labels lists" if task in arguments.labels else "the released code has"
            problems.add(f"{task} scores {count} labels; {whose} {len(known)}")
    problems.raise_if_any(
        RunError, "Name all labels in their order, as labels.TASK=[…] among the arguments:"
    )


def _norms_differ(found: Backbone, wanted: Backbone) -> bool:
    """Whether LayerNorms were trained. Raises `RunError` if anything else of the encoder was."""
    norms = {name for name, _ in wanted.layer_norms()}
    theirs = dict(wanted.encoder.named_parameters())
    problems = Problems()
    trained = False
    for name, tensor in found.encoder.named_parameters():
        if same(tensor, theirs[name]):
            continue
        if name in norms:
            trained = True
        else:
            problems.add(f"{ENCODER}{name}")
    problems.raise_if_any(
        RunError,
        f"The checkpoint's encoder is not {wanted.reference}, of which a run keeps LayerNorms "
        "alone. If that is another encoder, name the right one (--backbone, --revision). If it "
        "was trained, save the checkpoint's own as a folder with its tokenizer "
        "(save_pretrained), and name that. These differ:",
    )
    return trained


def _write_origin(run: Path, checkpoint: Checkpoint, arguments: ReleasedArguments) -> None:
    """Keep where the run came from, and with which arguments."""
    origin = {
        "format_version": FORMAT_VERSION,
        "checkpoint": str(checkpoint.folder),
        "files": [path.relative_to(checkpoint.folder).as_posix() for path in checkpoint.weights],
        "arguments": arguments.model_dump(),
    }
    write_json(run / ORIGIN, origin, indent=2)
