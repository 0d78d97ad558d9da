"""Parts of pages that are made from the code, so that they cannot differ from it. A hook of mkdocs.

in:  the comments <!-- configuration -->, <!-- metrics --> and <!-- notebook --> of a page
out: every key of conf/ with its default and its comment; every metric as it is declared; the notebook with its outputs
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from yaml import MappingNode, ScalarNode

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
COMMENT = re.compile(r"(?:^|\s)#\s?(.*)")
GROUPS = (
    *("task", "data", "model", "objective", "optimizer", "scheduler", "trainer", "clusterer", "measures"),
    *("callbacks", "logger"),
    *("experiment", "hydra/launcher", "hydra/sweeper"),
)


def on_page_markdown(markdown: str, **others: object) -> str:
    return re.sub(r"<!-- (configuration|metrics|notebook) -->", lambda found: MADE[found[1]](), markdown)


def configuration() -> str:
    """A section for the run's own keys, one for each group of conf/, with a table for each option, and one for the jobs
    of another command."""
    parts = ["## The run itself", *_file(CONF / "train.yaml", "")]
    for group in GROUPS:
        parts.append(f"## `{group}`")
        for file in sorted((CONF / group).glob("*.yaml")):
            prefix = "" if group == "experiment" else group.replace("/", ".") + "."
            parts += [f"### `{group}={file.stem}`", *_file(file, prefix)]
    parts += ["## Jobs of `taskcluster-analyze`", *_file(CONF / "analyze.yaml", "")]
    return "\n\n".join(parts)


def _file(file: Path, prefix: str) -> Iterator[str]:
    """The comment at the top of a file of the configuration, and tables of its keys and of what it is made of."""
    text = file.read_text(encoding="utf-8")
    lines, content, root = text.splitlines(), yaml.safe_load(text), yaml.compose(text)
    assert isinstance(root, MappingNode)
    first = root.start_mark.line
    yield from _top(lines[:first])
    chosen = [item for item in content.get("defaults", ()) if item != "_self_"]
    for option in (item for item in chosen if isinstance(item, str)):
        yield f"All other keys are those of `{file.parent.name}={option}`."
    groups = [(name, value) for item in chosen if isinstance(item, dict) for name, value in item.items()]
    if groups:
        said = {line.strip(" -").split(":")[0]: COMMENT.search(line) for line in lines if line.startswith("  - ")}
        options = [
            (name.removeprefix("override "), _flow(value), found[1] if (found := said[name]) else "")
            for name, value in groups
        ]
        yield "\n".join(["| group | default | options |", "| --- | --- | --- |", *(_row(*row) for row in options)])
    rows = list(_keys(root, lines, first, prefix))
    if rows:
        yield "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *(_row(*row) for row in rows)])


def _top(lines: list[str]) -> Iterator[str]:
    """Comment lines as a paragraph, and what is indented among them as a block of code."""
    said, block = [], []
    for line in lines:
        words = line.removeprefix("#").removeprefix(" ")
        if words.startswith("@package"):
            continue
        if words.startswith("    "):
            block.append(words.strip())
            continue
        if block:
            yield from (" ".join(said), "```sh\n" + "\n".join(block) + "\n```")
            said, block = [], []
        said.append(words)
    if said:
        yield " ".join(said)


def _keys(node: MappingNode, lines: list[str], first: int, prefix: str) -> Iterator[tuple[str, str, str]]:
    """(dotted key, default, comment) of every key below a mapping. first: the line at which the file's keys begin."""
    for name, value in node.value:
        key, line = prefix + name.value, name.start_mark.line
        if name.value == "defaults" or key == "hydra.help":
            continue
        above: list[str] = []
        while line - len(above) > first and lines[line - len(above) - 1].strip().startswith("# "):
            above.insert(0, lines[line - len(above) - 1].strip()[2:])
        in_place = isinstance(value, ScalarNode) or value.flow_style
        end = value.end_mark if in_place else name.end_mark
        found = COMMENT.search(lines[end.line][end.column :])
        comment = " ".join([*above, found[1] if found else ""]).strip()
        if in_place:
            yield key, lines[line][value.start_mark.column : value.end_mark.column], comment
        elif isinstance(value, MappingNode):
            if comment:
                yield key, "", comment
            yield from _keys(value, lines, first, f"{key}.")
        else:
            yield key, _flow(yaml.safe_load(yaml.serialize(value))), comment


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _row(key: str, default: str, meaning: str) -> str:
    shown = f"<code>{_plain(default)}</code>" if default else ""
    return f"| `{key}` | {shown} | {_plain(meaning)} |"


def _plain(text: str) -> str:
    """Text that is not to be read as Markdown."""
    return re.sub(r"[|<*_{}$]", lambda found: f"&#{ord(found[0])};", text)


def metrics() -> str:
    """A table of the metrics that come with the package, and a section for each measure that gives them."""
    from taskcluster.metrics import ALWAYS, OWN, Metric
    from taskcluster.views import views

    def row(metric: Metric) -> str:
        low, high = ("" if bound is None else f"{bound:g}" for bound in (metric.low, metric.high))
        chance = "" if metric.chance is None else f"{metric.chance:g}"
        cells = (
            f"`{metric.at('val', 3)}`",
            _plain(f"{metric.label}, {metric.where}" if metric.where else metric.label),
            f"{low or '-∞'} to {high or '∞'}",
            chance,
            ", ".join(views(metric)) or "journal only",
        )
        return "| " + " | ".join(cells) + " |"

    head = ["| key | meaning | range | chance | shown in |", "| --- | --- | --- | --- | --- |"]
    parts = ["## At every measured step", "\n".join([*head, *map(row, ALWAYS)])]
    declared, measures = {*ALWAYS}, _measures()
    for file in sorted((CONF / "measures").glob("*.yaml")):
        if file.stem not in measures:  # other values of other options
            first = file.read_text(encoding="utf-8").splitlines()[0]
            parts += [f"## `measures=[{file.stem}]`", first.removeprefix("# ")]
            continue
        measure = measures[file.stem]
        declared |= {*measure.metrics}
        positions = ", ".join(f"`{position}`" for position in measure.positions)
        said = " ".join((measure.__doc__ or "").split("\n\n")[0].split())
        reads = f" Reads the states at {positions}." if positions else ""
        parts += [f"## `measures=[{file.stem}]`", said + reads]
        parts.append("\n".join([*head, *map(row, measure.metrics)]))
    if missing := [metric.key for metric in OWN if metric not in declared]:
        raise ValueError(f"no option of measures gives {missing}, which the catalogue has")
    return "\n\n".join(parts)


def _measures() -> dict[str, Any]:
    """Those of all options, on tasks that have all of their metrics."""
    from taskcluster.config import RunConfig
    from taskcluster.operations.command_line.cli import composed
    from taskcluster.training.experiment import measuring, prepare

    few_shot = ("task=facts", "task.describe=demonstrations", "data.loss_on=y", "data.layout=padded")
    regexes = ("task.regexes_per_task=2", "measures.interventions.at=[instruction_end,input]")
    options = {file.stem: yaml.safe_load(file.read_bytes()) for file in (CONF / "measures").glob("*.yaml")}
    names = [name for name, option in options.items() if "_target_" in option.get(name, {}) and name != "vectors"]
    measures: dict[str, Any] = {}
    for chosen, words in ((names, regexes), (["vectors"], few_shot)):
        config = RunConfig.of(composed(f"measures=[{','.join(chosen)}]", *words))
        measures |= measuring(config, prepare(config)[0]).measures
    return measures


def notebook() -> str:
    """The cells of docs/notebook.ipynb and what they printed and drew."""
    parts = []
    for cell in nbformat.read(Path(__file__).parent / "notebook.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(re.sub("^#", "##", cell.source, flags=re.MULTILINE))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![{cell.metadata['alt']}](data:image/png;base64,{data['image/png'].strip()})")
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


MADE: dict[str, Callable[[], str]] = {"configuration": configuration, "metrics": metrics, "notebook": notebook}
