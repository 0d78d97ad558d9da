"""Write the generated parts of the reference into its pages. They are committed, so they can be read on the
repository's host too, and a test fails if they are out of date.

    python docs/reference.py

in:  conf/, the declarations of measures, docs/notebook.ipynb
out: configuration.md, every key with its default and its comment; metrics.md, every metric; notebook.md, the notebook
     with its outputs

A generated part is between the lines <!-- NAME --> and <!-- end of NAME -->. Its blocks of code are of the languages
`shell` and `py`, since tests run all blocks of `sh` and `python`.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from yaml import MappingNode, ScalarNode

ROOT = Path(__file__).parents[1]
DOCS, CONF = ROOT / "docs", ROOT / "conf"
IMAGES = DOCS / "images"
COMMENT = re.compile(r"(?:^|\s)#\s?(.*)")
GROUPS = (
    *("task", "data", "model", "objective", "optimizer", "scheduler", "trainer", "clusterer", "measures"),
    *("callbacks", "logger"),
    *("experiment", "hydra/launcher", "hydra/sweeper"),
)


def generated() -> dict[Path, bytes]:
    """Return the content of every file with a generated part, by its path."""
    text, images = notebook()
    files: dict[Path, bytes] = {IMAGES / name: image for name, image in images.items()}
    for name, made in (("configuration", configuration()), ("metrics", metrics()), ("notebook", text)):
        page = DOCS / f"{name}.md"
        files[page] = filled(page.read_text(encoding="utf-8"), name, made).encode()
    return files


def filled(page: str, name: str, made: str) -> str:
    """Replace the generated part of a page, from its first marker to its last, or to the end of the page."""
    before, start, rest = page.partition(f"<!-- {name} -->\n")
    if not start:
        raise ValueError(f"docs/{name}.md has no line <!-- {name} -->")
    end = f"<!-- end of {name} -->\n"
    return f"{before}{start}\n{made}\n\n{end}{rest.partition(end)[2]}"


def configuration() -> str:
    """Return a section for the keys of a run, one for each group of conf/ with a table for each option, and one for the
    jobs of taskcluster-analyze."""
    parts = ["## The run itself", *_file(CONF / "train.yaml", "")]
    for group in GROUPS:
        parts.append(f"## `{group}`")
        for file in sorted((CONF / group).glob("*.yaml")):
            prefix = "" if group == "experiment" else group.replace("/", ".") + "."
            parts += [f"### `{group}={file.stem}`", *_file(file, prefix)]
    parts += ["## Jobs of `taskcluster-analyze`", *_file(CONF / "analyze.yaml", "")]
    return "\n\n".join(parts)


def _file(file: Path, prefix: str) -> Iterator[str]:
    """Yield the comment at the top of a configuration file, and tables of its defaults and of its keys."""
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
    """Yield comment lines as a paragraph, and the indented ones among them as a block of code."""
    words, block = [], []
    for line in lines:
        text = line.removeprefix("#").removeprefix(" ")
        if text.startswith("@package"):
            continue
        if text.startswith("    "):
            block.append(text.strip())
            continue
        if block:
            yield from (" ".join(words), "```shell\n" + "\n".join(block) + "\n```")
            words, block = [], []
        words.append(text)
    if words:
        yield " ".join(words)


def _keys(node: MappingNode, lines: list[str], first: int, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, default, comment) of every key below a mapping. first: the line of the first key."""
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
    """Escape Markdown's special characters."""
    return re.sub(r"[|<*_{}$]", lambda found: f"&#{ord(found[0])};", text)


def metrics() -> str:
    """Return a table of the metrics of every run, and a section for each measure with its metrics."""
    from taskcluster.metrics import ALWAYS, OWN, Metric
    from taskcluster.views import views

    def row(metric: Metric) -> str:
        low, high = (f"{bound:g}".replace("inf", "∞") for bound in metric.range)
        chance = "" if metric.chance is None else f"{metric.chance:g}"
        cells = (
            f"`{metric.at('val', 3)}`",
            _plain(f"{metric.label}, {metric.where}" if metric.where else metric.label),
            f"{low} to {high}",
            chance,
            ", ".join(views(metric)) or "journal only",
        )
        return "| " + " | ".join(cells) + " |"

    head = ["| key | meaning | range | chance | shown in |", "| --- | --- | --- | --- | --- |"]
    parts = ["## At every measured step", "\n".join([*head, *map(row, ALWAYS)])]
    declared, measures = {*ALWAYS}, _measures()
    for file in sorted((CONF / "measures").glob("*.yaml")):
        if file.stem not in measures:  # a preset of other options
            first = file.read_text(encoding="utf-8").splitlines()[0]
            parts += [f"## `measures=[{file.stem}]`", first.removeprefix("# ")]
            continue
        measure = measures[file.stem]
        declared |= {*measure.metrics}
        positions = ", ".join(f"`{position}`" for position in measure.positions)
        summary = " ".join((measure.__doc__ or "").split("\n\n")[0].split())
        reads = f" Reads the states at {positions}." if positions else ""
        parts += [f"## `measures=[{file.stem}]`", summary + reads]
        parts.append("\n".join([*head, *map(row, measure.metrics)]))
    if missing := [metric.key for metric in OWN if metric not in declared]:
        raise ValueError(f"no option of measures gives {missing}, which the catalogue has")
    return "\n\n".join(parts)


def _measures() -> dict[str, Any]:
    """Return the measures of all options, built on tasks for which they have all of their metrics."""
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
        measures |= measuring(config, *prepare(config)).measures
    return measures


def notebook() -> tuple[str, dict[str, bytes]]:
    """Return the cells of docs/notebook.ipynb with their outputs as Markdown, and its pictures by file name."""
    parts, images = [], {}
    for cell in nbformat.read(DOCS / "notebook.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(re.sub("^#", "##", cell.source, flags=re.MULTILINE))
            continue
        parts.append(f"```py\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"notebook_{len(images) + 1}.png"
                images[name] = base64.b64decode(data["image/png"])
                parts.append(f"![{cell.metadata['alt']}](images/{name})")
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts), images


if __name__ == "__main__":
    for file, content in generated().items():
        if not file.is_file() or file.read_bytes() != content:
            file.write_bytes(content)
            print(file.relative_to(ROOT))
