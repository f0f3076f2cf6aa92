"""The drafter in torch is the drafter in llama.cpp, and its loss is the paper's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, an extra")

from dspark_local.backend.base import Block, Features, Shape, Span  # noqa: E402 - after the skip
from dspark_local.convert import convert_draft  # noqa: E402
from dspark_local.errors import TrainingError  # noqa: E402
from dspark_local.formats.gguf import GGUF  # noqa: E402
from dspark_local.training.blocks import block_tokens, cut_blocks, draft_hidden, pick_anchors  # noqa: E402
from dspark_local.training.checkpoints import write_drafter  # noqa: E402
from dspark_local.training.design import design  # noqa: E402
from dspark_local.training.heads import TorchHeads  # noqa: E402
from dspark_local.training.losses import DraftLoss  # noqa: E402
from dspark_local.training.network import Drafter  # noqa: E402
from dspark_local.training.start import read_start  # noqa: E402
from dspark_local.training.target import TargetFile  # noqa: E402
from tests.formats import tiny  # noqa: E402
from tests.real.pairs import opened  # noqa: E402
from tests.real.test_reference import close, compare  # noqa: E402
from tests.training.limits import file_size  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

TEXT = list(b"What does textwrap.dedent do, and when would one use it?")


def random_drafter(target: TargetFile) -> Drafter:
    """One that says something: no part is as small as a drafter's is in the beginning."""
    torch.manual_seed(3)
    drafter = Drafter(replace(design(target.gguf, depth=2), block_size=4))
    with torch.no_grad():
        for parameter in drafter.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 + (parameter.ndim == 1))
    return drafter


@pytest.mark.parametrize("untied", [False, True])
def test_torch_and_the_converted_file_agree_to_f16(tmp_path: Path, untied: bool) -> None:
    """Logits and confidences of every block behind the same states; and both are the numpy reference's."""
    path = tiny.target(untied=untied, kind=tiny.F16).write(tmp_path / "t.gguf")
    target = TargetFile.open(path)
    drafter = random_drafter(target)
    write_drafter(tmp_path / "draft", drafter.state_dict(), drafter.design)
    draft = convert_draft(tmp_path / "draft", path, tmp_path / "d.gguf", type="F16")
    heads = TorchHeads(target, device="cpu", dtype=torch.float32)
    size = drafter.design.block_size
    with opened(path, draft, Shape(n_ctx=512, width=8)) as (model, llama, _), torch.no_grad():
        rows = []
        for start, token in enumerate(TEXT):
            (row,) = model.decode([Span(0, start, [token])])
            assert row.hidden is not None
            rows.append(row.hidden)
        taps = torch.from_numpy(np.concatenate(rows))[None]
        ids, anchors = torch.tensor([TEXT]), torch.arange(1, len(TEXT))[None]
        tokens = block_tokens(ids, anchors, size=size, mask=drafter.design.mask_token_id)
        hidden = draft_hidden(drafter, heads.embed(tokens), taps, anchors)[0]
        for i, start in enumerate(range(1, len(TEXT))):
            llama.inject([Features(0, start - 1, rows[start - 1])])
            (block,) = llama.draft([Block(0, start, TEXT[start])], size)
            previous = torch.tensor([TEXT[start], *block.logits.argmax(-1)[:-1].tolist()])
            w1, bias = drafter.markov(previous)
            close(block.logits, (hidden[i] @ heads.head.T + bias).numpy(), 0.005)
            assert block.confidences is not None
            expected = torch.sigmoid(drafter.confidence(hidden[i], w1)).numpy()
            np.testing.assert_allclose(block.confidences, expected, atol=0.005)
    compare(path, draft, TEXT, gamma=size, tolerance=0.005)


def test_a_drafters_file_starts_another_with_the_same_weights(tmp_path: Path) -> None:
    """From the GGUF, and from the checkpoint that it was made of."""
    path = tiny.target(kind=tiny.F16).write(tmp_path / "t.gguf")
    drafter = random_drafter(TargetFile.open(path))
    write_drafter(tmp_path / "draft", drafter.state_dict(), drafter.design)
    draft = convert_draft(tmp_path / "draft", path, tmp_path / "d.gguf", type="F32")
    for source in (draft, tmp_path / "draft"):
        start = read_start(source, design(GGUF.open(path)))
        assert start.design == drafter.design
        assert start.weights.keys() == drafter.state_dict().keys()
        for name, tensor in drafter.state_dict().items():
            np.testing.assert_array_equal(start.weights[name], tensor.numpy(), err_msg=name)


def test_the_gradient_is_that_of_the_formula() -> None:
    """Against torch's own derivative of Σ w (α_ce·CE + α_l1·|q − p|₁), with a scale and a soft cap of the target."""
    torch.manual_seed(0)
    n, width, rank, vocab = 9, 6, 4, 40
    shapes = ((n, width), (n, rank), (vocab, rank))
    hidden, w1, w2 = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes)
    head, final = torch.randn(vocab, width, dtype=torch.float64), torch.randn(n, width, dtype=torch.float64)
    labels, weights = torch.randint(vocab, (n,)), torch.rand(n, dtype=torch.float64)
    loss, accepted = DraftLoss.apply(hidden, w1, w2, head, final, labels, weights, 0.1, 0.9, 0.5, 3.0)
    loss.backward()
    got = [t.grad.clone() for t in (hidden, w1, w2)]
    for t in (hidden, w1, w2):
        t.grad = None
    log_q = torch.log_softmax(hidden @ head.T + w1 @ w2.T, -1)
    p = torch.softmax(3.0 * torch.tanh(final @ head.T * 0.5 / 3.0), -1)
    l1 = (log_q.exp() - p).abs().sum(-1)
    plain = (weights * (0.9 * l1 - 0.1 * log_q[torch.arange(n), labels])).sum()
    plain.backward()
    torch.testing.assert_close(loss, plain, check_dtype=False, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(accepted, 1 - l1 / 2, check_dtype=False, rtol=1e-5, atol=1e-5)
    for ours, tensor in zip(got, (hidden, w1, w2), strict=True):
        torch.testing.assert_close(ours, tensor.grad, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    """A full disk leaves what was written before, and is told in one line."""
    drafter = random_drafter(TargetFile.open(tiny.target(kind=tiny.F16).write(tmp_path / "t.gguf")))
    write_drafter(tmp_path / "draft", drafter.state_dict(), drafter.design)
    before = (tmp_path / "draft" / "model.safetensors").read_bytes()
    with file_size(4096), pytest.raises(TrainingError, match=r"model\.safetensors cannot be written"):
        write_drafter(tmp_path / "draft", drafter.state_dict(), drafter.design)
    assert (tmp_path / "draft" / "model.safetensors").read_bytes() == before
    assert not list((tmp_path / "draft").glob(".*"))


def test_blocks_by_hand() -> None:
    """A slot counts while all labels up to it are of the answer; the anchor itself may be the prompt's last token."""
    ids = torch.tensor([[1, 2, 3, 4, 5, 0]])
    learn = torch.tensor([[False, False, True, True, True, False]])
    blocks = cut_blocks(ids, learn, torch.tensor([[1, 3, 4]]), 3)
    assert blocks.labels[0, 0].tolist() == [3, 4, 5]
    assert blocks.previous[0, 0].tolist() == [2, 3, 4]
    assert blocks.valid[0].tolist() == [[True] * 3, [True, False, False], [False] * 3]
    drawn = pick_anchors(learn, 3, torch.Generator().manual_seed(0))
    assert drawn.tolist() == [[1, 2, 3]]
    tokens = block_tokens(ids, drawn, size=3, mask=9)
    assert tokens[0].tolist() == [[2, 9, 9], [3, 9, 9], [4, 9, 9]]
