"""What no single key of an experiment's file shows to be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import nearest
from ..recipe.faults import Faults, Loc
from .curve import decided

if TYPE_CHECKING:
    from .design import Design, Settings

# What a run's place in the design decides, so that `set` must not.
OWN_KEYS = ("name", "method", "training.seed", "start_from")


def check(design: Design, folder: Path, faults: Faults) -> None:
    """Note what no single key shows."""
    if not design.settings:
        faults.add(("settings",), "name at least one setting")
    for loc, settings in _all_settings(design):
        for key, value in settings.items():
            inside = [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else []
            if key.split(".")[0] in OWN_KEYS or not {key, *inside}.isdisjoint(OWN_KEYS):
                faults.add((*loc, key), "the experiment decides this for each run; remove it")
    for name, section in design.settings.items():
        loc = ("settings", name)
        recipe = folder / Path(section.recipe).expanduser()
        if not recipe.is_file() and (*loc, "recipe") not in faults.unset:
            beside = [p.name for p in recipe.parent.glob("*.y*ml")]
            faults.add((*loc, "recipe"), f"there is no {recipe}.{nearest(recipe.name, beside)}")
        if section.after is not None:
            _check_after(design, name, faults)
        if section.curve is not None:
            _check_curve(design, name, faults)


def _check_after(design: Design, name: str, faults: Faults) -> None:
    loc, section = ("settings", name, "after"), design.settings[name]
    before = design.settings.get(str(section.after))
    if before is None:
        faults.add(
            loc,
            f'there is no setting "{section.after}".{nearest(str(section.after), design.settings)}',
        )
        return
    passed, at = {name}, str(section.after)
    while at in design.settings and (following := design.settings[at].after):
        if at in passed:
            faults.add(loc, "these settings wait for each other")
            return
        passed.add(at)
        at = following
    if at in passed:
        faults.add(loc, "these settings wait for each other")
        return
    if before.curve is not None:
        faults.add(
            loc, f"{section.after} has a curve: which of its runs to go on from is not clear"
        )
    for key in ("methods", "seeds"):
        ours = getattr(section, key) or getattr(design, key)
        theirs = getattr(before, key) or getattr(design, key)
        lacking = [str(value) for value in ours or () if theirs and value not in theirs]
        if lacking:
            faults.add(loc, f"{section.after} is not run with the {key} {', '.join(lacking)}")
    if before.parts and not (section.parts and section.parts.keys() <= before.parts.keys()):
        faults.add(
            loc,
            f"{section.after} has the parts {', '.join(before.parts)}; "
            "a setting after it must have parts of the same names",
        )


def _check_curve(design: Design, name: str, faults: Faults) -> None:
    """Note what sets a curve's own keys for its runs, which would have no effect."""
    for loc, settings in (*_general(design), *_particular(design, name)):
        for key in decided(settings):
            faults.add((*loc, key), f"the curve of {name} decides this for each run; remove it")


def _all_settings(design: Design) -> list[tuple[Loc, Settings]]:
    own = [found for name in design.settings for found in _particular(design, name)]
    return _general(design) + own


def _general(design: Design) -> list[tuple[Loc, Settings]]:
    """Return what is set for every setting, with its place."""
    given = [(("method_set", method), given) for method, given in design.method_set.items()]
    return [(("set",), design.set), *given]


def _particular(design: Design, name: str) -> list[tuple[Loc, Settings]]:
    """Return what is set for one setting alone, with its place."""
    loc, section = ("settings", name), design.settings[name]
    found: list[tuple[Loc, Settings]] = [((*loc, "set"), section.set)]
    found += [((*loc, "method_set", m), given) for m, given in section.method_set.items()]
    found += [((*loc, "parts", part), given) for part, given in section.parts.items()]
    return found
