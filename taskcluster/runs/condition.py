"""What a run studies, and the names that follow from it: of folders, of W&B runs and of W&B groups.

in:  a run's resolved configuration
out: its condition (all settings but seeds and what changes no number), its seeds, and a short name for each

The report, the dashboard, the folders and W&B all group runs by this one definition. A name shows where a condition
departs from the configuration that comes with the package: the nearest option of each group, `optimizer=sgd`, and the
values that differ from that option, `lr=0.1`. So it does not depend on how a setting was given. Free of torch.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from taskcluster.runs import options

LONGEST = 100, 27  # bytes of CONDITION and of seed=SEED: with a slash between, the 128 that W&B takes
LONGEST_VALUE = 24

NOT_TEXT = re.compile(r"[\d.+-]\S*\d|\d|-?(nan|inf\w*)|true|false|null")  # as other values than texts are shown

REFERENCE = re.compile(r"\$\{(?:oc\.select:)?(\w+)(?:\.\w+)*\}")  # ${seeds.tasks}: the part that it leads to

# Keys that change no number of a run, or that follow from the others when it begins, as data.chat_frame does.
WITHOUT_EFFECT = ("name", "resume", "logger.", "callbacks.checkpoint.", "trainer.max_time", "data.chat_frame")

# The seeds of components, each with the source of randomness that it follows unless set by itself (see train.yaml).
FOLLOWS = {
    "task.seed": "tasks",
    "data.seed": "batches",
    "data.probe_seed": "probe",
    "model.seed": "model",
    "clusterer.seed": "kmeans",
}

Config = Mapping[str, Any]


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def matters(key: str) -> bool:
    """Whether a dotted key of the configuration has to do with a run's numbers."""
    return not key.startswith(WITHOUT_EFFECT)


def differing_keys(one: Config, other: Config) -> list[str]:
    """Dotted keys that matter and have different values."""
    old, new = flatten(one), flatten(other)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and matters(key))


def is_seed(key: str) -> bool:
    """Whether a dotted key of the configuration is a seed: seed, seeds.kmeans, task.seed, data.probe_seed."""
    return key.startswith("seeds.") or re.fullmatch(r"(.*[._])?seed", key) is not None


def decisive(config: Config) -> dict[str, Any]:
    """The condition: dotted key -> value of all that matters to a run's numbers, seeds aside."""
    return {key: value for key, value in flatten(config).items() if matters(key) and not is_seed(key)}


def digest(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that identify these values."""
    return hashlib.sha256(_text(values).encode(errors="surrogatepass")).hexdigest()[:12]


def separate_seeds(config: Config) -> dict[str, Any]:
    """Seeds that do not follow `seed`: {"seeds.kmeans": 3}, {"data.probe_seed": 5}."""
    sources = config.get("seeds") or {}
    seed = config.get("seed")
    own = {f"seeds.{key}": value for key, value in sources.items() if value != seed}
    for key, value in flatten(config).items():
        of_a_part = is_seed(key) and key != "seed" and not key.startswith("seeds.")
        if of_a_part and value != sources.get(FOLLOWS.get(key, ""), seed):
            own[key] = value
    return own


def own_seeds(config: Config) -> dict[str, Any]:
    """The same by the shortest name that is clear: {"kmeans": 3}, {"probe_seed": 5}."""
    own = separate_seeds(config)
    return {"probe_seed" if key == "data.probe_seed" else key.removeprefix("seeds."): own[key] for key in own}


def seeds_of(config: Config) -> str:
    """ "0", or "0, kmeans=3" where one of the seeds was set by itself."""
    return ", ".join([str(config.get("seed")), *(f"{key}={value}" for key, value in own_seeds(config).items())])


def run_folder(config: Config) -> str:
    """`CONDITION/seed=SEED`, or `seed=SEED` for the condition that the package comes with; at most 128 bytes."""
    return f"{condition(config)}/{_seeds(config)}".lstrip("/")


def group(config: Config) -> str:
    """Of W&B: the condition, or the experiment's name where the condition is the package's own."""
    return condition(config) or shortened(str(config.get("name")))


def shortened(name: str, longest: int = 128) -> str:
    """A name of at most so many bytes; what had to be cut ends in a digest of the whole."""
    return name if len(name.encode()) <= longest else _cut(name, longest - 9) + "~" + digest({"": name})[:8]


def condition(config: Config) -> str:
    """The condition in LONGEST[0] bytes, "" for the package's own. Two conditions never have one name.

    `model.n_layer=2,optimizer=sgd`; keys by their last parts where that is too long; then as many of them as there is
    room for, with the number of others and a digest of the whole. The digest is also there where a value cannot be
    shown as it is.
    """
    shown = {key: _shown(value) for key, value in sorted(departures(config).items())}
    exact = all(plain for _, plain in shown.values()) and all(re.fullmatch(r"[\w.@-]+", key) for key in shown)
    longest, ending = LONGEST[0], "" if exact else "~" + digest(decisive(config))[:8]
    for named in (str, _short):
        words = [re.sub(r"[^\w.@-]", "_", named(key)) + f"={text}" for key, (text, _) in shown.items()]
        if len((whole := ",".join(words) + ending).encode()) <= longest:
            return whole
    ending = "~" + digest(decisive(config))[:8]
    room = longest - len(ending) - len(",+999")
    kept = [text for text in accumulate(words, "{},{}".format) if len(text.encode()) <= room]
    start = kept[-1] if kept else _cut(words[0], room)
    rest = len(words) - max(len(kept), 1)
    return start + (f",+{rest}" if rest else "") + ending


def _seeds(config: Config) -> str:
    own = own_seeds(config)
    shown = {key: _shown(value) for key, value in {"seed": config.get("seed"), **own}.items()}
    name = ",".join(f"{key}={text}" for key, (text, _) in shown.items())
    if all(exact for _, exact in shown.values()) and len(name.encode()) <= LONGEST[1]:
        return name
    ending = "~" + digest({"": _text({"seed": config.get("seed"), **own})})[:8]
    return _cut(f"seed={shown['seed'][0]}", LONGEST[1] - len(ending)) + ending


def departures(config: Config) -> dict[str, Any]:
    """Where the condition departs from the package's: group -> nearest option, if another than the package's; dotted
    key -> value that differs from that option's, `...` for one that is gone, of a measure with all its keys."""
    own, default = decisive(config), options.defaults()
    departed: dict[str, Any] = {}
    for part in dict.fromkeys([*default, *config]):
        mine = {key: value for key, value in own.items() if key.partition(".")[0] == part}
        best, found = "", _differing(mine, _expected(config, part, default.get(part, {})))
        for option in options.alternatives(part) if found else ():
            differing = _differing(mine, _expected(config, part, options.option(part, option)))
            if len(differing) + 1 < len(found) + bool(best):
                best, found = option, differing
        departed |= ({part: best} if best else {}) | _gathered(config, found, mine)
    return departed


def _gathered(config: Config, found: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, Any]:
    """A measure in place of its keys: `...` for one that is gone, "+" for one that was added as its option has it."""
    left = {_named(key) for key in mine}
    gathered = {_named(key) if value is ... and _named(key) not in left else key: value for key, value in found.items()}
    for name in [_named(key) for key in found if key in mine and key == f"{_named(key)}._target_"]:
        group, _, option = name.partition(".")
        comes = _expected(config, group, options.option(group, option))
        if f"{name}._target_" in comes:
            kept = _differing({key: gathered[key] for key in gathered.keys() & comes.keys()}, comes)
            others = {key: value for key, value in gathered.items() if key not in comes}
            gathered = others | {key: value for key, value in kept.items() if key in gathered} | {name: "+"}
    return gathered


def _named(key: str) -> str:
    """The first two parts of a dotted key: of a measure's, the group and its name."""
    return ".".join(key.split(".")[:2])


def _differing(values: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    keys = dict.fromkeys([*expected, *values])
    return {key: values.get(key, ...) for key in keys if _text(values.get(key, ...)) != _text(expected.get(key, ...))}


def _expected(config: Config, part: str, node: Any) -> dict[str, Any]:
    """What the settings of one part would be if it held `node`, whose references follow the rest of the configuration:
    scheduler.max_steps follows trainer.max_steps. {} where they cannot be followed."""
    referred = _referred(config, part, node)
    texts = [json.dumps(value, default=str) for value in ({part: node}, referred)]
    if [json.loads(text) for text in texts] == [{part: node}, referred]:
        return _resolved(part, *texts)
    return _resolve(part, node, referred)


@lru_cache(maxsize=4096)
def _resolved(part: str, node: str, referred: str) -> dict[str, Any]:
    """`_resolve` of what JSON can hold: most runs of a sweep have most parts in common."""
    return _resolve(part, json.loads(node)[part], json.loads(referred))


def _resolve(part: str, node: Any, referred: Config) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        whole = OmegaConf.create({**referred, part: node})
        value = OmegaConf.to_container(whole[part], resolve=True) if isinstance(node, Mapping) else whole[part]
    except OmegaConfBaseException:
        return {}
    return decisive({part: value})


def _referred(config: Config, part: str, node: Any) -> Config:
    """The parts of a configuration that a part's references lead to; all of it where they are not plain ones."""
    text = _text(node)
    roots = {*REFERENCE.findall(text)}
    found = {key: value for key, value in config.items() if key in roots}
    plain = text.count("${") == len(REFERENCE.findall(text)) and "${" not in _text(found)
    return found if plain else config


def _shown(value: Any) -> tuple[str, bool]:
    """A value as text that every file system takes, and whether no other value looks so."""
    if value is ...:
        return "~", True
    if isinstance(value, list) and len(value) > 1:
        texts = [_shown(one) for one in value]
        exact = all(plain and not isinstance(one, list) for one, (_, plain) in zip(value, texts, strict=True))
        text = ",".join(str(text) for text, _ in texts)
        return (text, True) if exact and len(text) <= LONGEST_VALUE else (_cut(text, LONGEST_VALUE), False)
    if value is None or isinstance(value, bool | int | float):
        text = json.dumps(value).lower()
        return (text, True) if len(text) <= LONGEST_VALUE else (_cut(text, LONGEST_VALUE), False)
    last = str(value).rstrip("/").rpartition("/")[2]  # of a path
    text = _cut(re.sub(r"[^\w.+-]+", "_", last).strip("_"), LONGEST_VALUE)
    return text, text == value and bool(re.fullmatch(r"[a-z0-9_.+-]+", text)) and not NOT_TEXT.fullmatch(text)


def _cut(text: str, longest: int) -> str:
    return text.encode(errors="replace")[:longest].decode(errors="ignore")


def _text(value: Any) -> str:
    return json.dumps(_sortable(value), sort_keys=True, default=str)


def _sortable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _sortable(one) for key, one in value.items()}
    return [_sortable(one) for one in value] if isinstance(value, list) else value


def _short(key: str) -> str:
    return _short_keys().get(key, key)


@lru_cache
def _short_keys() -> dict[str, str]:
    """Of the package's keys, less those that follow another: the shortest ending that no other key has."""
    default = options.defaults()
    references = {key for key, value in flatten(default).items() if str(value).startswith("${")}
    keys = [key for key in decisive(default) if key not in references]
    return {key: next(end for end in _ends(key) if _claims(end, keys) == 1) for key in keys}


def _ends(key: str) -> Iterator[str]:
    parts = key.split(".")
    return (".".join(parts[k:]) for k in reversed(range(len(parts))))


def _claims(end: str, keys: Sequence[str]) -> int:
    return sum(f".{key}".endswith(f".{end}") for key in keys)
