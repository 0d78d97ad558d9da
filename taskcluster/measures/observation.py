"""One observation of a model: a network and a split of the probe set in, states, labels, loss and answers out.

in:  a network, a datamodule with its probe set, the positions whose states are wanted
out: Observation: states {position: (L+1, N, D)}, labels {position: {name: (N,)}}, loss, which answers are right
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from taskcluster.data.batches import Packer
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.data.rows import Position
from taskcluster.models.hidden_states import forward_with_states
from taskcluster.processes.group import share_out

CHUNK = 256  # rows a forward pass, at most
LOGITS = 2**26  # logits a forward pass, about: with a large vocabulary it has fewer rows

Edit = Callable[[Tensor, Tensor], Tensor]  # states (M, D), and which of the N at the position they are (M,) -> (M, D)


@dataclass(frozen=True)
class Observation:
    """What a network computes for one split of the probe set.

    Attributes:
        split: "train" or "val".
        states: {position: (L+1, N, D) float32}, on the network's device. N is the number of instructions at
            "instruction_end", where a state cannot depend on x, and the number of examples elsewhere.
        labels: {position: {name: (N,)}} on the CPU, with the names "task" and "description" and, except at
            "instruction_end", "instruction", "x" and "y".
        n_tasks: number of tasks in the family; a small probe set may lack some of them.
        loss: mean over predictions, in nats.
        correct: for each of E examples, whether all tokens of y are right, given I and x, (E,).
        edited: edited(position, {layer: edit}) runs the network again with edited states: an Observation of the same
            rows. An edit is a function of states (M, D) and of their indices among the N, (M,).
        network: the network itself.
    """

    split: str
    states: Mapping[Position, Tensor]
    labels: Mapping[Position, Mapping[str, Tensor]]
    n_tasks: int
    loss: float
    correct: Tensor
    edited: Callable[[Position, Mapping[int, Edit]], "Observation"]
    network: PreTrainedModel

    @property
    def accuracy(self) -> float:
        return int(self.correct.sum()) / len(self.correct)


@torch.no_grad()
def observe(
    network: PreTrainedModel,
    data: SequenceDataModule,
    split: str = "val",
    positions: Sequence[Position] = ("instruction_end", "input"),
    edited_at: Position = "input",
    edits: Mapping[int, Edit] | None = None,
) -> Observation:
    """Run `network`, without dropout, over a split of the probe set.

    The processes of a run divide the rows, and each gets the whole result.

    Args:
        network: a causal LM that was trained on `data`.
        data: the datamodule with the probe set.
        split: "train" or "val".
        positions: where to keep the states of every layer.
        edited_at: the position of the edited states.
        edits: {layer: edit}; see `Observation`.

    Raises:
        UserError: an edited layer does not exist.
    """
    rows, device = data.probe[split], network.device
    pack = Packer(rows, data.loss_on, device, data.padding)

    def of_chunk(chosen: Tensor) -> tuple[list[Tensor], float, float, Tensor]:
        """States at each position, the summed loss, its weight, and which answers are right."""
        batch = pack(chosen)
        places = [batch.places(position) for position in positions]
        nowhere = torch.zeros(2, 0, dtype=torch.long, device=device)
        line, column = torch.cat([nowhere, *(torch.stack(place) for place in places)], dim=1)
        at = batch.places(edited_at)
        which = torch.searchsorted(rows.at(edited_at), batch.origin[at].cpu()).to(device)
        changes = {layer: partial(_edited, edit, which) for layer, edit in (edits or {}).items()}
        output, layers = forward_with_states(network, (line, column), changes, at, **batch.inputs)
        parts = layers.float().split([len(lines) for lines, _ in places], dim=1) if places else ()
        loss = float(batch.loss(output.logits)) * batch.total
        return list(parts), loss, batch.total, batch.correct(output.logits).cpu()

    training = network.training
    network.eval()
    try:
        places_of_row = int(rows.lengths.max()) if data.padding is None else int(rows.counts.max()) * data.longest
        at_once = min(CHUNK, max(1, LOGITS // (places_of_row * network.config.vocab_size)))
        chunks = share_out(of_chunk, torch.arange(len(rows)).split(at_once))
    finally:
        network.train(training)
    parts, losses, weights, right = zip(*chunks, strict=True)
    return Observation(
        split=split,
        states={
            position: torch.cat([part.to(device) for part in of_position], dim=1)
            for position, of_position in zip(positions, zip(*parts, strict=True), strict=True)
        },
        labels={position: rows.labels(position) for position in positions},
        n_tasks=len(data.family.tasks),
        loss=sum(losses) / sum(weights),
        correct=torch.cat(right),
        edited=partial(observe, network, data, split, positions),
        network=network,
    )


def _edited(edit: Edit, which: Tensor, states: Tensor) -> Tensor:
    return edit(states, which)
