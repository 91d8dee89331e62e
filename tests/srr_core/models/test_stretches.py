"""Models that do something of their own between their blocks: encoder-decoders, and classes that keep several lists."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import BartConfig, DebertaV2Config, PreTrainedConfig, PreTrainedModel, T5Config, XLMConfig
from transformers.modeling_outputs import CausalLMOutput

from srr_core.calibration.dataset import TokenWindows
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import UnsupportedModelError
from srr_core.evaluators.tokens import token_losses
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.inputs import inputs_of, predicted_ids
from srr_core.models.layers import plan_layers
from srr_core.models.recording import Recorder, StretchEnded

CPU = torch.device("cpu")
IDS = torch.randint(3, 259, (4, 16), generator=torch.Generator().manual_seed(0))
_T5 = T5Config(vocab_size=259, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
_BART = BartConfig(
    vocab_size=259,
    d_model=32,
    encoder_layers=2,
    decoder_layers=1,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    max_position_embeddings=64,
    decoder_start_token_id=2,
)
_XLM = XLMConfig(vocab_size=259, emb_dim=32, n_layers=2, n_heads=4, max_position_embeddings=64)
_DEBERTA = DebertaV2Config(
    vocab_size=259,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    relative_attention=True,
    pos_att_type=["p2c", "c2p"],
    conv_kernel_size=3,  # behind the first block
)
MODELS: dict[str, tuple[PreTrainedConfig, list[range]]] = {
    "T5ForConditionalGeneration": (_T5, [range(2), range(2, 4)]),
    "BartForConditionalGeneration": (_BART, [range(2), range(2, 3)]),
    "DebertaV2ForMaskedLM": (_DEBERTA, [range(1), range(1, 2)]),
    "XLMWithLMHeadModel": (_XLM, [range(1), range(1, 2), range(2, 3), range(3, 4)]),
}


class _CarryingConfig(PreTrainedConfig):
    model_type = "carrying"
    num_hidden_layers = 3
    vocab_size = 259


class _CarryingBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        result = hidden + self.proj(hidden)
        return result, result.square()


class CarryingModel(PreTrainedModel):
    """Adds up what its blocks return beside hidden states, and works with the sum from the second block on."""

    config_class = _CarryingConfig

    def __init__(self, config: _CarryingConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(259, 8)
        self.layers = nn.ModuleList(_CarryingBlock() for _ in range(config.num_hidden_layers))
        self.head = nn.Linear(8, 259, bias=False)
        self.post_init()

    def forward(self, input_ids: Tensor) -> CausalLMOutput:
        """Return logits."""
        hidden, total = self.embed(input_ids), torch.zeros(8)
        for layer in self.layers:
            hidden, extra = layer(hidden)
            total = total + extra.mean((0, 1))
            hidden = hidden + total
        return CausalLMOutput(logits=self.head(hidden))

    def get_output_embeddings(self) -> nn.Linear:
        """Return the head."""
        return self.head


def _open(directory: Path) -> tuple[BlockwiseModel, Architecture]:
    architecture, weights = Architecture(directory), CheckpointReader(directory)
    return BlockwiseModel(architecture, weights, plan_layers(architecture, weights.entries), CPU), architecture


def _saved(name: str, directory: Path) -> Any:
    torch.manual_seed(0)
    model: Any = getattr(transformers, name)(MODELS[name][0]).eval()
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_logits_are_those_of_the_stock_model_with_one_block_in_memory(name: str, tmp_path: Path) -> None:
    stock = _saved(name, tmp_path)
    model, architecture = _open(tmp_path)

    stream = model.start(list(torch.split(IDS, 2)))
    held = []
    for index in range(model.num_blocks):
        with model.loaded_block(index, stream) as block:
            held.append(
                sum(not p.is_meta for p in architecture.model.parameters()) - sum(1 for _ in block.parameters())
            )
            model.run_block(stream, block)
    found = torch.cat([logits for _, logits in model.logits(stream)])

    torch.testing.assert_close(found, stock(**inputs_of(stock, IDS)).logits, rtol=1e-4, atol=1e-4)
    assert held == [0] * model.num_blocks
    assert stream.stretches == MODELS[name][1]


@torch.no_grad()
def test_the_loss_of_an_encoder_decoder_is_that_of_its_second_halves(tmp_path: Path) -> None:
    stock = _saved("T5ForConditionalGeneration", tmp_path)
    model, _ = _open(tmp_path)

    found = token_losses(model, TokenWindows(IDS), batch_size=2)

    expected = stock(input_ids=IDS[:, :8], labels=IDS[:, 8:].contiguous()).loss
    assert found.shape == (4, 8)
    assert float(found.mean()) == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
def test_two_streams_enter_the_decoder_each_with_its_own_encoder_states(tmp_path: Path) -> None:
    _saved("BartForConditionalGeneration", tmp_path)
    model, _ = _open(tmp_path)
    stream = model.start([IDS])
    other = stream.branch()
    for index in range(2):
        with model.loaded_block(index, stream, other) as block:
            model.run_block(stream, block)
            for parameter in block.parameters():
                parameter.mul_(0.5)
            model.run_block(other, block)
    with model.loaded_block(2, stream, other) as block:
        outputs = [model.forward_block(one, block, 0) for one in (stream, other)]

    assert not torch.allclose(*outputs)
    assert torch.equal(stream.hidden[0], other.hidden[0])  # both decoders begin with the same tokens


@pytest.mark.parametrize(("name", "start"), [("T5ForConditionalGeneration", 0), ("BartForConditionalGeneration", 2)])
def test_a_decoder_is_given_its_start_and_the_second_half(name: str, start: int, tmp_path: Path) -> None:
    stock = _saved(name, tmp_path)
    found = predicted_ids(stock, IDS)
    assert torch.equal(found[:, 1:], IDS[:, 8:])
    assert found[:, 0].tolist() == [start] * 4


@torch.no_grad()
def test_what_blocks_return_beside_hidden_states_is_put_back_where_the_model_computes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers.AutoConfig.register("carrying", _CarryingConfig, exist_ok=True)
    monkeypatch.setattr("srr_core.models.architecture.transformers.CarryingModel", CarryingModel, raising=False)
    torch.manual_seed(0)
    stock = CarryingModel(_CarryingConfig()).eval()
    stock.save_pretrained(tmp_path)
    model, _ = _open(tmp_path)

    stream = model.start([IDS])
    for index in range(model.num_blocks):
        with model.loaded_block(index, stream) as block:
            model.run_block(stream, block)
    found = torch.cat([logits for _, logits in model.logits(stream)])

    assert stream.stretches == [range(1), range(1, 2), range(2, 3)]
    torch.testing.assert_close(found, stock(IDS).logits, rtol=1e-4, atol=1e-4)


def test_hidden_states_that_were_changed_in_place_end_a_stretch() -> None:
    recorder = Recorder(0, None)
    hidden = recorder.note(0, torch.ones(1, 2, 3))
    hidden.mul_(2)
    with pytest.raises(StretchEnded) as ended:
        recorder.note(1, hidden)
    assert ended.value.index == 1
    assert recorder.entered is not None
    assert torch.equal(recorder.entered, torch.ones(1, 2, 3))


def test_work_between_two_calls_of_one_block_is_refused() -> None:
    recorder = Recorder(0, None)
    hidden = recorder.note(0, torch.ones(1, 2, 3))
    with pytest.raises(UnsupportedModelError, match="between two calls of one block"):
        recorder.note(0, hidden + 1)
