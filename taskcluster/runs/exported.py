"""What an exported run brings with its model: its tasks, prompts, clusterer, measures and seeds. Free of torch.

in:  the overrides of one job, of which model.path names a folder that holds taskcluster.yaml, or checkpoints that do
out: the override that chooses this configuration, as options of Hydra that come after model=pretrained in the list of
     defaults: what an experiment or the command gives replaces them
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from taskcluster.runs import options
from taskcluster.runs.condition import FOLLOWS, differing_keys, digest
from taskcluster.runs.files import EXPORTED_CONFIG
from taskcluster.validation import UserError

GROUP = options.EXPORTED
PARTS = ("task", "data", "clusterer", "measures")


def follow(words: Sequence[str], told: bool = True) -> list[str]:
    """["exported=NAME"] where the words name the folder of an exported run, else []. told: whether it is printed, once.

    Raises UserError for a file that cannot be read, and for checkpoints of runs that differ.
    """
    if any(word.startswith(f"{GROUP}=") for word in words) or not (path := _path(words)):
        return []
    if not (files := _files(path)):
        return []
    name = f"{GROUP}_{digest({'': str(path.absolute())})}"
    if f"{name}.yaml" not in ConfigStore.instance().repo.get(GROUP, {}):
        _register(name, _followed(path, files))
        if told:
            print(
                f"Tasks, data, clusterer, measures and seeds are those of {files[0]}, unless given otherwise",
                flush=True,
            )
    return [f"{GROUP}={name}"]


def _path(words: Sequence[str]) -> Path | None:
    given = [word.lstrip("+") for word in words if word.lstrip("+").startswith("model.path=")]
    override = OverridesParser.create().parse_override(given[-1]) if given else None
    if override is None or override.is_sweep_override() or not (value := override.value()):
        return None
    return Path(str(value))


def _files(path: Path) -> list[Path]:
    """That of a model, or those of the checkpoints in a folder."""
    if (path / "config.json").is_file():
        return [path / EXPORTED_CONFIG] if (path / EXPORTED_CONFIG).is_file() else []
    return sorted(file for file in path.glob(f"*/{EXPORTED_CONFIG}") if (file.parent / "config.json").is_file())


def _followed(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    first, *others = (_read(file) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        if differing := differing_keys(first, other):
            raise UserError(
                f"model.path={str(path)!r}: {files[0].parent.name} and {file.parent.name} were exported from runs that "
                f"differ in {differing[0]}; measure each by itself, as in model.path={file.parent}"
            )
    return first


def _read(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_bytes())
        return {key: config[key] for key in (*PARTS, "seed", "seeds")}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise UserError(
            f"{file} is not the configuration of a run; export the run again, or remove this file"
        ) from None


def _register(name: str, config: dict[str, Any]) -> None:
    seed, seeds = config["seed"], config["seeds"]
    parts: dict[str, Any] = {group: config[group] for group in PARTS}
    for key, source in FOLLOWS.items():
        group, _, seeded = key.partition(".")
        if group in parts and parts[group].get(seeded) == seeds[source]:
            parts[group][seeded] = f"${{seeds.{source}}}"
    for measure, node in parts["measures"].items():
        node |= _references(measure, node, seeds)
    of_another = {key: None for key in ("tokenizer_revision", "tokenizer_gguf_file") if key in parts["data"]}
    parts["data"] |= {"tokenizer": "${model.path}", **of_another}  # the exported one
    store = ConfigStore.instance()
    for group, node in parts.items():
        store.store(name=name, group=group, node=node)
    chosen = [{f"override /{group}": [name] if group == "measures" else name} for group in parts]
    own = {key: value for key, value in seeds.items() if value != seed}
    store.store(
        name=name, group=GROUP, package="_global_", node={"defaults": [*chosen, "_self_"], "seed": seed, "seeds": own}
    )


def _references(measure: str, node: Mapping[str, Any], seeds: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """The seeds of a measure that follow the run's, as in the measure's option."""
    for key, value in (options.option("measures", measure)).get(measure, {}).items():
        if str(value).startswith("${seeds.") and node.get(key) == seeds[str(value)[8:-1]]:
            yield key, value
