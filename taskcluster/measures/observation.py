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

CHUNK = 256  # rows a forward pass

Edit = Callable[[Tensor, Tensor], Tensor]  # states (M, D), and which of the N at the position they are (M,) -> (M, D)


@dataclass(frozen=True)
class Observation:
    """What a network makes of one split of the probe set.

    split: "train" or "val". states: {position: (L+1, N, D) float32}, on the network's device; N is the number of
    instructions at "instruction_end", where a state cannot depend on x, and of examples elsewhere.
    labels: {position: {"task", "description" and, but for instruction_end, "instruction", "x", "y": (N,)}}, on the CPU;
    see `Rows.labels`. n_tasks: in the family, of which a small probe set may lack some.
    loss: mean over predictions, in nats. correct (E,): of each example, whether all of y is right, given I and x.
    edited: gives the same rows as this network sees them where, at a position, the states of layers are edited on the
    way: edited(position, {layer: edit}); an edit is a function of states (M, D) and of which of the N they are (M,).
    """

    split: str
    states: Mapping[Position, Tensor]
    labels: Mapping[Position, Mapping[str, Tensor]]
    n_tasks: int
    loss: float
    correct: Tensor
    edited: Callable[[Position, Mapping[int, Edit]], "Observation"]

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
    """Run `network`, without dropout, over a split of the probe set; keep every layer's states at these positions.

    edits: {layer: edit} of the states at the position `edited_at`; see `Observation`. The processes of a run divide the
    rows, and each gets everything. Raises UserError for a layer that the network does not have.
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
        chunks = share_out(of_chunk, torch.arange(len(rows)).split(CHUNK))
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
    )


def _edited(edit: Edit, which: Tensor, states: Tensor) -> Tensor:
    return edit(states, which)
