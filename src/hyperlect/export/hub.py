"""A run on the Hugging Face Hub: what goes there, with its model card, in one commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from .. import __version__
from ..backbone.builtin import BUILTIN_IDS
from ..errors import HyperlectError, Problems, RunError, UnreachableError, listed
from ..evaluation import read_results
from ..model.config import EncoderReference, HyperXConfig, read_config
from ..recipe.document import Document, Loc, dump_document, map_texts, matches
from ..recipe.recipe import PLACES
from ..run_folder import (
    MODEL,
    PUBLIC,
    RECIPE,
    RESULTS,
    TRAINING,
    VERSIONS,
    WEIGHTS,
    hub_is_reachable,
    is_hub_id,
    read_json_or_empty,
)
from .card import model_card

CARD = "README.md"
_MADE_BY_HUB = ".gitattributes"


def push_to_hub(
    run: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    licence: str | None = None,
    token: str | None = None,
) -> str:
    """Put a run on the hub, with a model card; a repository that is missing is made.

    The weights, model.json, the recipe, results and what expected scores rest on are pushed, in one
    commit. Such files of an earlier push that the run lacks are deleted in it. The encoder, the
    data, logs and checkpoints stay here, and so do paths of this machine.

    Args:
        run: a run folder, or one that `HyperX.save_pretrained` wrote.
        repository: namespace/name.
        private: whether a new repository is private.
        revision: a branch, made from the main one if need be; the main one by default.
        licence: of the weights, in the hub's words (apache-2.0), for the card.
        token: for the hub; by default the one that `hf auth login` or HF_TOKEN set.

    Returns:
        The address of the commit.

    Raises:
        RunError: the run cannot be used elsewhere (its encoder is a local folder); there is no
            token, or one without the right; the repository holds something else, or is public and
            should be private.
        UnreachableError: the hub does not answer.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    files = public_files(run, repository, licence)
    if not (token or get_token()):
        raise RunError("The hub needs a token. Log in with `hf auth login`, or set HF_TOKEN.")
    if not hub_is_reachable(repository):
        raise UnreachableError("The hub cannot be reached, so nothing was pushed.")
    api = HfApi(token=token, library_name="hyperlect", library_version=__version__)
    with _explained(repository):
        try:
            info = api.model_info(repository)
        except RepositoryNotFoundError:
            api.create_repo(repository, private=private)
        else:
            if private and not info.private:
                raise RunError(
                    f"{repository} exists and is public. Make it private in its settings, or leave "
                    "--private out."
                )
        if revision:
            api.create_branch(repository, branch=revision, exist_ok=True)
        present = set(api.list_repo_files(repository, revision=revision))
        others = sorted(present - {*PUBLIC, CARD, _MADE_BY_HUB})
        if others and MODEL not in present:
            raise RunError(
                f"{repository} holds something else than a model of hyperlect: "
                f"{listed(others, 5)}. Name another repository."
            )
        old = sorted(present.intersection(PUBLIC) - files.keys())
        changes: list[Any] = [CommitOperationAdd(*file) for file in files.items()]
        changes += map(CommitOperationDelete, old)
        message = f"Push a model of hyperlect {__version__}"
        options: dict[str, Any] = {"commit_message": message, "revision": revision}
        commit = api.create_commit(repository, changes, **options)
    return str(commit.commit_url)


def public_files(
    run: str | Path, repository: str, licence: str | None = None
) -> dict[str, Path | bytes]:
    """Return what goes to the hub, by name: files as they are, or their content.

    Args:
        run, repository, licence: as for `push_to_hub`.

    Raises:
        RunError: the run is not complete, or cannot be used elsewhere.
        HyperlectError: the repository's name is not one.
    """
    run = Path(run)
    if not is_hub_id(repository):
        raise HyperlectError(f'"{repository}" is not a name on the hub. Write namespace/name.')
    for name in (MODEL, WEIGHTS):
        if not (run / name).is_file():
            raise RunError(f"{run} holds no trained model: {name} is missing.")
    encoder, config = read_config(run / MODEL)
    _require_public(run, encoder, config)
    files: dict[str, Path | bytes] = {name: run / name for name in PUBLIC if (run / name).is_file()}
    recipe = None
    if RECIPE in files:
        recipe = public_recipe(run / RECIPE)
        files[RECIPE] = dump_document(recipe).encode()
    card = model_card(
        repository,
        encoder,
        config,
        results=read_results(run) if RESULTS in files else None,
        recipe=recipe,
        training=read_json_or_empty(run / TRAINING),
        versions=read_json_or_empty(run / VERSIONS),
        licence=licence,
    )
    return {**files, CARD: card.encode()}


def _require_public(run: Path, encoder: EncoderReference, config: HyperXConfig) -> None:
    """Raise `RunError` with everything that others would look for and could not find."""
    problems = Problems(str(run / MODEL))
    reference, features = encoder.reference, config.language_features
    has_id = is_hub_id(reference) or is_hub_id(f"hub/{reference}")  # some have no owner
    if reference not in BUILTIN_IDS and (Path(reference).is_dir() or not has_id):
        problems.add(
            f"the encoder is the folder {reference}. Push the encoder to the hub first, and write "
            "its id here in place of the folder",
            key="backbone.reference",
        )
    if features and features.typology and Path(features.typology).is_absolute():
        problems.add(
            f"features of languages are read from {features.typology}, which others do not have. "
            "Train with typology: uriel, or without",
            key="language_features.typology",
        )
    problems.raise_if_any(RunError, "The run cannot be used elsewhere:")


def public_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe as plain data, without what only this machine knows.

    Absolute names of files and folders lose the folders they lie in, and ``folder`` is the recipe's
    own. The names of variables stay.

    Raises:
        RecipeError: it cannot be read.
    """

    def bare(text: str, loc: Loc) -> str:
        if not matches(loc, *PLACES):
            return text
        local = PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive
        return PureWindowsPath(text).name if local or text.startswith("~") else text

    data: dict[str, Any] = map_texts(Document.read(path).data, bare)
    return {**data, "folder": "."}


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into errors that say what to do."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HyperlectError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = str(error.server_message or error).strip().split("\n")[0]
        hint = {
            401: "The hub does not accept the token. Log in again with `hf auth login`.",
            403: "The token has no right to write there. Make one with write access, or name a "
            "namespace of yours.",
        }
        raise RunError(
            f"{repository} was not pushed. {hint.get(status, 'The hub refused it.')} ({reason})"
        ) from error
    except ValueError as error:  # the hub's check of the card's metadata
        raise RunError(f"{repository} was not pushed. {error}") from error
    except Exception as error:  # of the transport, which have no common class
        raise UnreachableError(
            f"{repository} was not pushed: the connection to the hub failed "
            f"({type(error).__name__}). Push it again."
        ) from error
