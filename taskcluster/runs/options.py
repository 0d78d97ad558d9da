"""What a configuration can be composed of: the groups that come with the package, and a user's own beside them.

in:  a group and the name of one of its options
out: its keys and values, references as they are written
"""

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from omegaconf import DictConfig

EXPORTED = "exported"  # what options of exported runs begin with: see taskcluster.runs.exported

PACKAGE = Path(__file__).parents[1]
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())  # in a wheel, in a checkout


def defaults() -> dict[str, Any]:
    """The configuration that comes with the package; not to be changed."""
    return _job(_packaged())


def alternatives(group: str) -> list[str]:
    """The options that can be chosen instead of the package's own, in alphabetical order."""
    own = _composed(_packaged()).hydra.runtime.choices.get(group)
    others = [option for option in _options(_loader(), group) if option != own] if own else []
    return [option for option in others if not option.startswith(EXPORTED)]


def option(group: str, name: str) -> Any:
    """What a group holds with this option, {} for one that cannot be composed; not to be changed."""
    return _option(_loader(), group, name)


@lru_cache(maxsize=1024)
def _options(loader: "ConfigLoader", group: str) -> list[str]:
    return loader.get_group_options(group)


@lru_cache(maxsize=1024)
def _option(loader: "ConfigLoader", group: str, name: str) -> Any:
    try:
        return _job(loader, f"{group}={name}")[group]
    except Exception:  # whatever is wrong with a file that this run does not use
        return {}


def _loader() -> "ConfigLoader":
    """Hydra's, where it runs: it knows a user's own options, which come before the package's."""
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance()
    return running.config_loader() if running.is_initialized() else _packaged()


@lru_cache
def _packaged() -> "ConfigLoader":
    """One that knows the package's options alone. Leaves a Hydra that is running as it was."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), job_name="train", version_base="1.3"):
            return GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = running


@lru_cache(maxsize=1024)
def _composed(loader: "ConfigLoader", *overrides: str) -> "DictConfig":
    """By the loader itself, as this is called while Hydra composes."""
    from hydra.types import RunMode

    with warnings.catch_warnings(action="ignore"):
        return loader.load_configuration("train", list(overrides), RunMode.RUN)


@lru_cache(maxsize=1024)
def _job(loader: "ConfigLoader", *overrides: str) -> dict[str, Any]:
    """The keys of the job."""
    from omegaconf import OmegaConf

    composed = _composed(loader, *overrides)
    keys = [str(key) for key in composed if key != "hydra"]
    node: Any = OmegaConf.to_container(OmegaConf.masked_copy(composed, keys))
    return node
