"""Networks with hand-set weights, so that the content of every layer and the effect of every edit are known."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast


class ByHand(PreTrainedModel):
    """Blocks between an embedding and an output layer, both (V, D). A block keeps states instead of keys and values."""

    config_class = PreTrainedConfig

    def __init__(self, embedding: Tensor, output: Tensor, *blocks: nn.Module) -> None:
        sizes = {"vocab_size": len(embedding), "hidden_size": embedding.shape[1], "num_attention_heads": 1}
        super().__init__(PreTrainedConfig(num_hidden_layers=len(blocks), **sizes))
        self.embedding, self.blocks = nn.Embedding.from_pretrained(embedding), nn.ModuleList(blocks)
        self.lm_head = nn.Linear(embedding.shape[1], len(embedding), bias=False)
        self.lm_head.weight = nn.Parameter(output)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, past_key_values: Cache, logits_to_keep: int = 0, **_: Any
    ) -> CausalLMOutputWithPast:
        states = self.embedding(input_ids)
        for block in self.blocks:
            states = block(states, past_key_values=past_key_values, visible=attention_mask)
        return CausalLMOutputWithPast(logits=self.lm_head(states[:, -logits_to_keep:]))
