"""Three regexes a task, of docs/results.md, from experiment=regexes."""

from collections.abc import Mapping

from sweeps.cells import by_layer, columns, last, numbered, report, select

from taskcluster.results.cells import Table
from taskcluster.results.findings import Findings

THREE_REGEXES = {"task.holdout": "instruction", "data.loss_on": "sequence", "task.shuffle_outputs": False}
BY_LAYER = {
    "ari": "ARI at the separator",
    "ari_within_regex": "within a regex",
    "ari_across_regexes": "across regexes of a task",
    "ari_to_regex": "the same clusters against regexes",
    "probe": "linear probe",
    "ari_within_x": "ARI at x, within x",
    "effect_add_input": "causal effect at x",
    "effect_add_instruction_end": "causal effect at the separator",
    "effect_random_input": "control: random direction at x",
}
BASELINES = {
    "": "the last layer",
    "_symbols": "bag of symbols",
    "_bigrams": "bag of bigrams",
    "_mean_embedding": "mean embedding",
    "_edit_distance": "edit distance",
    "_untrained": "untrained network, last layer",
}
LAST = {
    "accuracy": "accuracy",
    "ari": "ARI at the separator",
    "ari_within_regex": "within a regex",
    "ari_across_regexes": "across regexes",
    "ari_to_regex": "against regexes",
    "ari_within_x": "ARI at x, within x",
    "effect_add_input": "causal effect at x",
}


def tables(found: Findings) -> Mapping[str, Table]:
    three = select(found, THREE_REGEXES)
    unseen = select(found, {"task.holdout": "description"})
    others = {
        "three regexes a task": three,
        "loss on y alone": select(found, {"data.loss_on": "y"}),
        "outputs shuffled": select(found, {"task.shuffle_outputs": True}),
    }
    baselines = [
        [words, *(last(found, three, f"{key}{name}") for key in ("ari", "ari_within_x"))]
        for name, words in BASELINES.items()
    ]
    compared = [[words, *(last(found, c, key) for key in LAST)] for words, c in others.items()]
    across = [[words, *by_layer(found, c, "ari_across_regexes")] for words, c in others.items()]
    splits = {"training regexes": "train", "unseen regexes": "val"}
    beside = {"ari_symbols": "bag of symbols", "probe": "linear probe, last layer"}
    texts = [[words, last(found, unseen, key)] for key, words in beside.items()]
    accuracy = [[f"accuracy, {words}", last(found, unseen, "accuracy", split)] for words, split in splits.items()]
    made = report(found, [three])["The paper's claims"]
    return {
        "regexes": Table(
            "", numbered(three), [[words, *by_layer(found, three, key)] for key, words in BY_LAYER.items()]
        ),
        "regexes_baselines": Table("", ["ARI of", "at the separator", "at x, within each x"], baselines),
        "regexes_unseen": Table(
            "", numbered(unseen), [[words, *by_layer(found, unseen, "ari", split)] for words, split in splits.items()]
        ),
        "regexes_unseen_last": Table("", ["unseen regexes", ""], accuracy + texts),
        "regexes_controls": Table("", ["", *LAST.values()], compared),
        "regexes_controls_across": Table("", numbered(three, "across regexes"), across),
        "regexes_claims": columns(made, ["claim", made.columns[3]]),
    }
