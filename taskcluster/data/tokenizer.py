"""The tokenizer of a run: ours, made from the task family, or another model's.

in:  a TaskFamily and a Template; or the name of a tokenizer
out: a fast tokenizer of Hugging Face's, which `save_pretrained` writes and AutoTokenizer reads

Ours has a token for each symbol or, where the family's texts are words, for each word. Where the template marks them,
as OF_SYMBOLS does, x and y are one token each, written <x:red> and <y:blue>: a symbol, an input and an output of one
name are then different tokens. It refuses what is not in its vocabulary.
"""

import re
from itertools import chain

from tokenizers import AddedToken, Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from taskcluster.data.prompts import FIELDS, Template
from taskcluster.tasks.family import TaskFamily

PAD, SEP = SPECIAL = "<pad>", "<sep>"  # ids 0 and 1
WORDS, SYMBOLS = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
WHOLE_X, WHOLE_Y = "<x:{x}>", "<y:{y}>"
OF_SYMBOLS = "{instruction}" + SEP + WHOLE_X + WHOLE_Y
OF_WORDS = "{instruction} " + SEP + " {x} {y}"


def own_tokenizer(family: TaskFamily, template: Template) -> PreTrainedTokenizerFast:
    """PAD, SEP, then the symbols or words of the family's prompts, then whole inputs and whole outputs, each sorted."""
    vocabulary = [*SPECIAL, *(_words(family, template) if family.words else _symbols(family, template))]
    backend = Backend(models.WordLevel({token: number for number, token in enumerate(vocabulary)}))
    backend.pre_tokenizer = WORDS if family.words else SYMBOLS
    if not family.words:
        backend.add_tokens([AddedToken(token, normalized=False) for token in vocabulary if len(token) > 1])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=PAD, sep_token=SEP)


def _words(family: TaskFamily, template: Template) -> list[str]:
    texts = (template.render(example)[0] for example in chain.from_iterable(family.split().values()))
    parts = chain.from_iterable(re.split("|".join(SPECIAL), text) for text in texts)
    return sorted({word for part in parts for word, _ in WORDS.pre_tokenize_str(part)})


def _symbols(family: TaskFamily, template: Template) -> list[str]:
    texts = {i for task in family.tasks for group in task.instructions for i in group}
    inputs = {x for task in family.tasks for x in task.mapping}
    outputs = {y for task in family.tasks for y in task.mapping.values()}
    whole: list[str] = []
    rest = template.text
    for mark, field, values in ((WHOLE_X, "x", inputs), (WHOLE_Y, "y", outputs)):
        if mark in rest:
            whole += [mark.format(**{field: value}) for value in sorted(values)]
        else:
            texts |= values
    for known in (WHOLE_X, WHOLE_Y, *SPECIAL, *(f"{{{field}}}" for field in FIELDS)):
        rest = rest.replace(known, "")
    return [*sorted(set().union(*texts, rest.format())), *whole]


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of another model: of a folder, or of a model's name on Hugging Face's hub.

    Raises ValueError where there is none, or only one that does not say which characters a token holds.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise ValueError(f"tokenizer={name!r} cannot be loaded ({reason}); give a folder or a model's name") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"tokenizer={name!r} is not a fast tokenizer; give a folder that holds a tokenizer.json")
    return tokenizer
