"""Read what an exported run brings with its model: tasks, objective, clusterer, measures and seeds. Free of torch.

in:  the overrides of one job, of which model.path names a folder that holds taskcluster.yaml, or checkpoints that do
out: the override that chooses this configuration, as options of Hydra that come after model=pretrained in the list of
     defaults: what an experiment or the command gives replaces them
"""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from taskcluster.runs.atomic_files import EXPORTED_CONFIG
from taskcluster.runs.condition import FOLLOWS, differing_keys, digest
from taskcluster.runs.options import option
from taskcluster.runs.records import NEXT_TOKEN
from taskcluster.validation import UserError

GROUP = "exported"
PARTS = ("task", "data", "objective", "clusterer", "measures")
LISTS = ("objective", "measures")  # groups of several parts


def follow(words: Sequence[str], told: bool = True) -> list[str]:
    """["exported=NAME"] where the words name the folder of an exported run, or of its checkpoints, else []. told:
    whether to print it, once. Raises UserError for a file that cannot be read, and for checkpoints of runs that differ.
    """
    if any(word.startswith(f"{GROUP}=") for word in words) or not (files := _files(words)):
        return []
    name = f"{GROUP}_{digest({'': str(files[0].absolute())})}"
    if f"{name}.yaml" not in ConfigStore.instance().repo.get(GROUP, {}):
        config, *others = map(_read, files)
        for file, other in zip(files[1:], others, strict=True):
            if differing := differing_keys(config, other):
                raise UserError(
                    f"model.path={str(file.parents[1])!r}: {files[0].parent.name} and {file.parent.name} were exported "
                    f"from runs that differ in {differing[0]}; measure each one separately, as in "
                    f"model.path={file.parent}"
                )
        _register(name, config)
        if told:
            print(
                f"Tasks, data, objective, clusterer, measures and seeds are those of {files[0]}, unless given "
                "otherwise",
                flush=True,
            )
    return [f"{GROUP}={name}"]


def _files(words: Sequence[str]) -> list[Path]:
    """The configuration beside the model that model.path names, or those beside the checkpoints in a folder."""
    given = [word.lstrip("+") for word in words if word.lstrip("+").startswith("model.path=")]
    override = OverridesParser.create().parse_override(given[-1]) if given else None
    if override is None or override.is_sweep_override():
        return []
    path = Path(str(override.value()))
    pattern = EXPORTED_CONFIG if (path / "config.json").is_file() else f"*/{EXPORTED_CONFIG}"
    return sorted(file for file in path.glob(pattern) if (file.parent / "config.json").is_file())


def _read(file: Path) -> dict[str, Any]:
    try:
        config = {"objective": {"next_token": NEXT_TOKEN}, **yaml.safe_load(file.read_bytes())}
        return {key: config[key] for key in (*PARTS, "seed", "seeds")}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise UserError(
            f"{file} is not the configuration of a run; export the run again, or remove this file"
        ) from None


def _register(name: str, config: dict[str, Any]) -> None:
    """Store an option of each part under this name, and one of the group `exported` that chooses them."""
    parts: dict[str, Any] = {group: config[group] for group in PARTS}
    for key, source in (FOLLOWS | _seeds_of_options(parts)).items():
        *path, last = key.split(".")
        node = reduce(lambda node, part: node.get(part, {}), path, parts)
        if node.get(last) == config["seeds"][source]:  # a seed that follows `seed`
            node[last] = f"${{seeds.{source}}}"
    others = {key: None for key in ("tokenizer_revision", "tokenizer_gguf_file") if key in parts["data"]}
    parts["data"] |= {"tokenizer": "${model.path}"} | others
    store = ConfigStore.instance()
    for group, node in parts.items():
        store.store(name=name, group=group, node=node)
    chosen = [{f"override /{group}": [name] if group in LISTS else name} for group in parts]
    seeds = {key: value for key, value in config["seeds"].items() if value != config["seed"]}
    node = {"defaults": [*chosen, "_self_"], "seed": config["seed"], "seeds": seeds}
    store.store(name=name, group=GROUP, package="_global_", node=node)


def _seeds_of_options(parts: dict[str, Any]) -> dict[str, str]:
    """Dotted key -> source of randomness, as in the options of these measures and objectives."""
    return {
        f"{group}.{name}.{key}": value.removeprefix("${seeds.").removesuffix("}")
        for group in LISTS
        for name in parts[group]
        for key, value in (option(group, name) or {}).get(name, {}).items()
        if str(value).startswith("${seeds.")
    }
