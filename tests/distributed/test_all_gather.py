"""Two processes on gloo say together what one says of the whole batch; alone, everything is itself."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mpsams import distributed, losses

WORLD, BATCH = 2, 6  # BATCH rows over both processes


def views():
    """Two views of each image, in double: twice (BATCH, 5)."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, 5, generator=generator, dtype=torch.float64) for _ in range(2)]


def scores():
    scores_bk = torch.rand(BATCH, 4, generator=torch.Generator().manual_seed(4))
    scores_bk[:, 1] += 0.5  # a favourite among the prototypes
    scores_bk[0] += 40  # far above the other process's largest
    return scores_bk


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def contrast(module, a_bd, b_bd):
    """The loss of SimCLR and the gradients of all parameters."""
    loss = losses.nt_xent(*module(torch.cat([a_bd, b_bd])).chunk(2), temperature=0.3)
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in module.parameters()]


def work(rank, folder):
    """Run one process; its findings go into a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    mine = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD)
    row = torch.tensor([[10.0 * rank + 1, rank]], requires_grad=True)
    rows = distributed.all_gather(row)
    (rows * torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * (rank + 1)).sum().backward()
    own = torch.tensor([rank + 1, 5])
    found = {
        "count": distributed.world_size(),
        "rows": rows.detach(),
        "gradient": row.grad,
        "summed": distributed.all_reduce(own),
        "own": own,
    }
    found["loss"], found["gradients"] = contrast(DistributedDataParallel(network()), *(x[mine] for x in views()))
    found |= {f"codes {n}": losses.sinkhorn(scores()[mine], 0.3, n) for n in (1, 3, 200)}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The findings of the two processes."""
    folder = str(tmp_path_factory.mktemp("ranks"))
    torch.multiprocessing.spawn(work, (folder,), nprocs=WORLD)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(WORLD)]


def test_rows_are_gathered_in_order_with_gradient_to_their_owner(both):
    for rank, found in enumerate(both):
        assert found["count"] == WORLD
        assert found["rows"].tolist() == [[1, 0], [11, 1]]
        # (1 + 2) times what each process asks for
        assert found["gradient"].tolist() == [[[3.0, 6.0]], [[9.0, 12.0]]][rank]


def test_sums_are_over_all_and_change_nothing(both):
    for rank, found in enumerate(both):
        assert found["summed"].tolist() == [3, 10] and found["own"].tolist() == [rank + 1, 5]


def test_two_processes_contrast_as_one_does_on_the_whole_batch(both):
    """The loss, and the gradients as DistributedDataParallel averages them."""
    loss, gradients = contrast(network(), *views())
    for found in both:
        torch.testing.assert_close(found["loss"], loss)
        torch.testing.assert_close(found["gradients"], gradients)
    halves = [contrast(network(), *(x[half] for x in views()))[0] for half in (slice(0, 3), slice(3, 6))]
    assert abs(float(sum(halves) / 2 - loss)) > 0.1  # as it would be without the other's negatives


@pytest.mark.parametrize("iterations", [1, 3, 200])
def test_prototypes_are_balanced_over_both_processes(both, iterations):
    codes = torch.cat([found[f"codes {iterations}"] for found in both])
    torch.testing.assert_close(codes, losses.sinkhorn(scores(), 0.3, iterations), rtol=1e-4, atol=1e-6)
    if iterations == 200:
        torch.testing.assert_close(codes.sum(dim=0), torch.full((4,), BATCH / 4), rtol=1e-3, atol=1e-3)
        assert (both[0]["codes 200"].sum(dim=0) - BATCH / 8).abs().max() > 0.1  # but not in each


def test_alone_everything_is_itself():
    x = torch.rand(3, 2, requires_grad=True)
    assert (
        distributed.world_size() == 1
        and distributed.all_gather(x) is x
        and torch.equal(distributed.all_reduce(x.detach()), x.detach())
    )
