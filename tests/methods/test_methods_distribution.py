"""Distribution matching: its distances against slow twins, its sources of networks, its loop, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference import distribution as slow
from torch import Tensor

import dd
from dd.base.seeding import child, child_seed
from dd.errors import DivergedError, InputError
from dd.experts import ExpertStore, make_student
from dd.methods import DM, IDM, NCFM, DistributionMatching, Run, Step
from dd.methods.distribution import terms
from dd.methods.distribution.loop import Loop, seen
from dd.methods.distribution.networks import Drawn, Interpolated, Queue, source_of
from dd.methods.start import pick_real
from dd.testing import check_method, tiny
from dd.testing.made import pictures
from dd.transforms.dsa import DSA
from dd.transforms.whiten import make_transform

NET = dd.ExpertRecipe(
    model="convnet(width=4, depth=1)", augment="", batch_size=8, experts=2, snapshots=3, snapshot_unit="step"
)
FEW: dict[str, Any] = {"ipc": 2, "expert": NET, "iterations": 3, "batch_real": 5}
CF: dict[str, Any] = {**FEW, "frequencies": 6}


def rows(n: int, seed: int, width: int = 3) -> Tensor:
    """Features float64 `[n, D]`."""
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(method: DistributionMatching, run: Run) -> Step:
    """The last step of a run on the small pictures."""
    return list(method.distill(pictures(), run))[-1]


# The distances


def test_the_mean_distance_is_that_of_its_twin() -> None:
    real, synthetic = rows(5, 0), rows(2, 1)
    found = terms.mean_distance(terms.summary(real, None), terms.summary(synthetic, None))
    assert float(found) == pytest.approx(slow.mean_distance(real, synthetic), rel=1e-12)
    assert float(terms.mean_distance(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0]))) == 25  # 3² + 4²


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_distance_of_characteristic_functions_is_that_of_its_twin(alpha: float) -> None:
    real, synthetic, t = rows(5, 0), rows(2, 1), rows(7, 2)
    found = terms.cf_distance(terms.summary(real, t), terms.summary(synthetic, t), alpha)
    assert float(found) == pytest.approx(slow.cf_distance(real, synthetic, t, alpha), rel=1e-6)


def test_at_one_half_it_is_the_mean_modulus_of_the_difference() -> None:
    real, synthetic, t = rows(5, 0), rows(2, 1), rows(7, 2)
    phases = [torch.exp(1j * (F.normalize(z) @ t.T)).mean(0) for z in (real, synthetic)]
    found = terms.cf_distance(terms.summary(real, t), terms.summary(synthetic, t), 0.5)
    torch.testing.assert_close(found, 0.5**0.5 * (phases[0] - phases[1]).abs().mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_gradients_of_the_distances_are_finite_differences(alpha: float) -> None:
    real, start, t = rows(5, 0), rows(2, 1), rows(7, 2)
    target, mean = terms.summary(real, t), terms.summary(real, None)
    for function in (
        lambda x: terms.cf_distance(target, terms.summary(x, t), alpha),
        lambda x: terms.mean_distance(mean, terms.summary(x, None)),
    ):
        x = start.clone().requires_grad_()
        (found,) = torch.autograd.grad(function(x), x)
        torch.testing.assert_close(found, slow.finite_differences(function, start), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_equal_sets_have_a_finite_gradient(alpha: float) -> None:
    x, t = torch.zeros(2, 3), rows(4, 0).float()
    for start in (x, rows(2, 1).float()):  # rows of zeros have no length
        x = start.clone().requires_grad_()
        found = terms.cf_distance(terms.summary(start, t), terms.summary(x, t), alpha)
        (gradient,) = torch.autograd.grad(found, x)
        assert float(found.detach()) < 1e-5
        assert bool(gradient.isfinite().all())


def test_an_augmentation_is_one_for_all_pictures() -> None:
    x = torch.randn(1, 3, 8, 8).expand(4, -1, -1, -1)
    for seed in range(6):
        made = terms.spread(terms.siamese(DSA(), (8, 8), child(seed, "draw")), 4)(x)
        assert torch.equal(made, made[:1].expand_as(made))


# One iteration


def loop_of(method: DistributionMatching, run: Run, drawn: Drawn | None = None) -> Loop:
    """The loop of a run, with a network of one's own for all iterations where one is given."""
    real = pictures()
    transform = make_transform(real, False)
    source: Any = source_of(method, real, run, transform)
    if drawn is not None:
        source.draw = lambda iteration, state: drawn
    return Loop(method, real, run, transform, source)


@pytest.mark.parametrize(
    "method",
    [DM(**FEW), DM(**FEW, features="channel"), NCFM(**CF, class_term="none", networks="fresh", clip=False)],
)
def test_an_iteration_goes_down_the_gradient_of_the_sum_over_classes(method: DistributionMatching) -> None:
    """By hand: all classes in one graph, features by the network's own parts, in float64."""
    run = Run(precision="fp64")
    loop, real = loop_of(method, run), pictures()
    state = loop.start()
    net: Any = make_student(NET, real, child_seed(0, "network", 0), torch.float64).module
    x = state["images"].clone().requires_grad_()
    t = None
    if method.statistic == "cf":
        t = torch.randn(6, net.classifier.in_features, generator=child(0, "frequencies", 0)).double()
    total = x.new_zeros(())
    for k in range(3):
        of_class = real.class_index(k)
        chosen = of_class[torch.randperm(len(of_class), generator=child(0, "real", 0, k))[:5]]
        batches = loop.transform.forward(real.train.pixels(chosen)).double(), x[2 * k : 2 * k + 2]
        maps = [net.blocks(batch) for batch in batches]
        found = [m.mean((2, 3)) if method.features == "channel" else m.flatten(1) for m in maps]
        whole = [terms.summary(z, t) for z in found]
        total = total + method.weight * terms.distance(whole[0], whole[1], method.statistic, 0.5)
    (gradient,) = torch.autograd.grad(total, x)
    new, told = loop.iterate(state)
    assert told["loss"] == pytest.approx(float(total.detach()), rel=1e-9)
    if method.pixel_optimizer == "sgd":
        torch.testing.assert_close(new["images"], state["images"] - method.lr_img * gradient, rtol=1e-9, atol=1e-12)
    else:  # the first step of Adam is a sign
        strong = gradient.abs() > 1e-3
        step = (state["images"] - new["images"])[strong]
        torch.testing.assert_close(step, method.lr_img * gradient[strong].sign(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("method", [DM(**FEW), IDM(**FEW, factor=2, mirror=True), NCFM(**CF, factor=2)])
def test_gradients_of_the_loop_are_finite_differences(method: DistributionMatching, tmp_path: Path) -> None:
    method = dataclasses.replace(method, expert=dataclasses.replace(NET, augment="color_flip_scale"))
    loop = loop_of(method, Run(precision="fp64", store=tmp_path))
    state = loop.start()
    drawn = loop.source.draw(0, state)
    frequencies = loop._frequencies(drawn, 0)
    target = list(loop._targets(drawn, frequencies, 0))[1]

    def loss(x: Tensor) -> Tensor:
        return loop.loss(1, x, target, drawn, frequencies, 0.5)

    x = state["images"][2:4].clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(x), x)
    part = torch.zeros_like(x, dtype=torch.bool)
    part[:, :, ::4, ::4] = True  # of 384 numbers 24
    wanted = slow.finite_differences(lambda few: loss(x.detach().masked_scatter(part, few)), x.detach()[part])
    torch.testing.assert_close(found[part], wanted, rtol=1e-4, atol=1e-7)


def test_the_class_term_has_the_weight_of_the_accuracy_on_the_iterations_images() -> None:
    method = IDM(**FEW, class_weight=0.7)
    loop = loop_of(method, Run())
    state = loop.start()
    drawn = loop.source.draw(0, state)
    targets = list(loop._targets(drawn, None, 0))
    x = state["images"][:2]
    plain, half = (loop.loss(0, x, targets[0], drawn, None, share) for share in (0.0, 0.5))
    logits = seen(loop.student, drawn.theta, x, "channel")[1]
    torch.testing.assert_close(half - plain, 0.7 * 0.5 * F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64)))
    right = sum(target.right for target in targets)
    assert loop.iterate(state)[1]["accuracy"] == right / 15
    assert {target.asked for target in targets} == {5}


def test_the_class_term_of_ncfm_is_by_the_trained_end(tmp_path: Path) -> None:
    method = NCFM(**CF, class_weight=2.0)
    loop = loop_of(method, Run(store=tmp_path))
    state = loop.start()
    drawn = loop.source.draw(0, state)
    frequencies = loop._frequencies(drawn, 0)
    target = next(iter(loop._targets(drawn, frequencies, 0)))
    x, without = state["images"][:2], loop_of(dataclasses.replace(method, class_term="none"), Run(store=tmp_path))
    assert drawn.trained is not None
    logits = loop.student.logits(drawn.trained, x)
    more = loop.loss(0, x, target, drawn, frequencies, 0.0) - without.loss(0, x, target, drawn, frequencies, 0.0)
    torch.testing.assert_close(more, 2 * F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64)), rtol=1e-3, atol=0)


def test_dm_brings_the_means_of_features_together() -> None:
    """In a network that no iteration has seen, the mean features of the set are nearer to those of all real images."""
    real = pictures()
    steps = list(DM(**{**FEW, "iterations": 60, "batch_real": 36, "lr_img": 0.5}, init="noise").distill(real, Run()))
    student = make_student(NET, real, 77)
    start = torch.randn(6, 3, 8, 8, generator=child(0, "init"))
    pixels = make_transform(real, False).forward(real.train.pixels(torch.arange(len(real.train))))

    def apart(images: Tensor) -> float:
        total = 0.0
        for k in range(3):
            parts = pixels[real.class_index(k)], images[2 * k : 2 * k + 2]
            means = [terms.summary(seen(student, student.initial, part, "flat")[0], None) for part in parts]
            total += float(terms.mean_distance(means[0], means[1]))
        return total

    with torch.no_grad():
        assert apart(steps[-1].state["images"]) < 0.5 * apart(start)


# Where networks come from


def test_fresh_networks_differ_and_are_named_by_their_iteration() -> None:
    real, method = pictures(), DM(**FEW)
    source = source_of(method, real, Run(), make_transform(real, False))
    first, second, again = (source.draw(i, {}).theta for i in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_the_queue_takes_in_one_at_a_time_and_forgets_the_oldest() -> None:
    real = pictures()
    method = IDM(**{**FEW, "iterations": 30}, queue=3, queue_every=4, queue_steps=2)
    queue = source_of(method, real, Run(), make_transform(real, False))
    assert isinstance(queue, Queue)
    assert [list(queue.alive(i)) for i in (0, 3, 4, 8, 12, 13)] == [
        [0], [0], [0, 1], [0, 1, 2], [1, 2, 3], [1, 2, 3],
    ]  # fmt: skip
    seen_numbers = set()
    for step in method.distill(real, Run()):
        alive = queue.alive(step.iteration)
        kept = {int(key.split("/")[1].split(".")[0]) for key in step.state if key.startswith("network/")}
        assert kept <= set(alive)
        seen_numbers.add(step.metrics["network"])
    assert seen_numbers == set(range(8))


def test_a_network_of_the_queue_is_trained_as_an_expert_is(tmp_path: Path) -> None:
    """Two times two steps with the state in between are the snapshots of an expert of that seed."""
    real, run = pictures(), Run(store=tmp_path)
    transform = make_transform(real, False)
    recipe = dataclasses.replace(NET, momentum=0.9, weight_decay=1e-3)
    method = IDM(**{**FEW, "expert": recipe}, queue=1, queue_every=100, queue_steps=2)
    queue = source_of(method, real, run, transform)
    state: dict[str, Tensor] = {}
    for i in range(2):
        state = queue.after(i, queue.draw(i, state), state)
    trainer = dd.experts.ExpertTrainer(dataclasses.replace(recipe, snapshot_every=4), real, transform, run.device)
    stream = trainer.snapshots(child_seed(0, "network", 0))
    next(stream)
    expert = next(stream)
    assert torch.equal(state["network/0.theta"], expert.theta)
    assert torch.equal(state["network/0.velocity"], expert.velocity)
    assert int(state["network/0.steps"]) == expert.step == 4


def test_interpolated_networks_lie_between_the_ends_of_an_expert(tmp_path: Path) -> None:
    real, run = pictures(), Run(store=tmp_path)
    method = NCFM(**CF, last_snapshot=2)
    source = source_of(method, real, run, make_transform(real, False))
    assert isinstance(source, Interpolated)
    store = ExpertStore(tmp_path, NET, real)
    shares = []
    for i in range(6):
        drawn = source.draw(i, {})
        first, end = store.read(drawn.number, [0, 2])
        assert drawn.trained is not None
        assert torch.equal(drawn.trained, end)
        share = float(((drawn.theta - end) @ (first - end)) / (first - end).square().sum())
        torch.testing.assert_close(drawn.theta, end + share * (first - end), rtol=0, atol=1e-5)
        shares.append(share)
    assert all(-1e-4 < share < 1 + 1e-4 for share in shares)
    assert len({round(share, 3) for share in shares}) == 6
    assert {source.draw(i, {}).number for i in range(6)} == {0, 1}
    assert store.length(0) == 3  # up to the snapshot that is read


def test_one_buffer_serves_trajectory_and_distribution_matching(tmp_path: Path) -> None:
    real = pictures()
    store = dd.buffer(real, NCFM(**CF, last_snapshot=2), store=tmp_path, progress=False)
    assert [store.length(seed) for seed in (0, 1)] == [3, 3]
    files = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.safetensors")}
    last(NCFM(**CF, last_snapshot=2), Run(store=tmp_path))
    assert files == {path: path.stat().st_mtime_ns for path in store.folder.glob("*.safetensors")}
    way_out = r"`recipe` must be a method that reads experts; got dm, which reads none. It runs without them\."
    with pytest.raises(InputError, match=way_out):
        dd.buffer(real, DM(**FEW), store=tmp_path, progress=False)


# What a run gives


@pytest.mark.parametrize("name", ["dm", "idm", "ncfm"])
def test_a_users_own_network_serves(name: str, tmp_path: Path) -> None:
    own = dd.Model(lambda channels, classes, size: torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, classes)
    ), name="own")  # fmt: skip
    method = dd.methods.presets.replace_fields(tiny(name), {"model": own, "candidate_every": 2})
    small = dd.distill(pictures(), method, store=tmp_path, progress=False)
    assert small.recipe.model == "own"


def test_pixels_are_clipped_where_they_shall_be(tmp_path: Path) -> None:
    for clip in (True, False):
        method = NCFM(**{**CF, "lr_img": 9.0}, clip=clip)
        images = last(method, Run(store=tmp_path)).state["images"]
        pixels = make_transform(pictures(), False).inverse(images)
        inside = bool((pixels >= -1e-5).all() and (pixels <= 1 + 1e-5).all())
        assert inside == clip


def test_labels_are_probabilities_where_students_mix_them() -> None:
    hard = last(DM(**FEW), Run()).candidates[0].set
    mixed = last(DM(**FEW, train=dd.TrainRecipe(mix="cutmix", steps=2)), Run()).candidates[0].set
    assert hard.labels.tolist() == [0, 0, 1, 1, 2, 2]  # type: ignore[union-attr]
    assert mixed.labels.argmax(1).tolist() == hard.labels.tolist()  # type: ignore[union-attr]
    dd.train(mixed, "mlp")


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_other_precisions_run(precision: Any, tmp_path: Path) -> None:
    run = Run(precision=precision, store=tmp_path)
    for method in (DM(**FEW), IDM(**FEW), NCFM(**CF)):
        assert last(method, run).state["images"].dtype == (torch.float64 if precision == "fp64" else torch.float32)


def test_whitened_images_and_batch_norm_run(tmp_path: Path) -> None:
    recipe = dataclasses.replace(NET, model="convnet(width=4, depth=1, norm=batch)", whiten=True)
    for method in (DM(**{**FEW, "expert": recipe}), NCFM(**{**CF, "expert": recipe}, clip=False)):
        small = last(method, Run(store=tmp_path)).candidates[0].set
        assert small.transform_record["kind"] == "zca"  # type: ignore[union-attr]


def test_a_small_class_gives_all_that_it_has() -> None:
    assert len(list(DM(**{**FEW, "batch_real": 10_000}).distill(pictures(), Run()))) == 3


def test_stored_images_of_several_pictures(tmp_path: Path) -> None:
    """They start as mosaics of four images of their class, all of them other ones, and what is offered is decoded."""
    real, run = pictures(), Run(store=tmp_path)
    method = NCFM(**CF, factor=2, mirror=True, storage="uint8")
    start = loop_of(method, run).start()["images"]
    rows_of = pick_real(real, 8, 0)
    assert len(set(rows_of.tolist())) == 24
    small = F.avg_pool2d(make_transform(real, False).forward(real.train.pixels(rows_of[4:8])), 2)
    corners = start[1, :, :4, :4], start[1, :, :4, 4:], start[1, :, 4:, :4], start[1, :, 4:, 4:]
    torch.testing.assert_close(torch.stack(corners), small)
    made: Any = last(method, run).candidates[0].set
    assert (len(made.stored_images), len(made), made.counts) == (6, 48, (2, 2, 2))
    assert made.labels.bincount().tolist() == [16, 16, 16]
    soft: Any = last(dataclasses.replace(method, train=dd.TrainRecipe(mix="cutmix", steps=2)), run).candidates[0].set
    assert torch.equal(soft.labels.argmax(1), made.labels)
    again = dd.load(made.save(tmp_path / "set.safetensors"))
    assert torch.equal(again.images, made.images)


@pytest.mark.parametrize("name", ["dm", "idm", "ncfm"])
def test_stored_images_keep_what_is_promised(name: str, tmp_path: Path) -> None:
    fields = {"factor": 2, "storage": "fp16", "train": {"mix": "cutmix"}, "candidate_every": 2}
    check_method(dd.methods.presets.replace_fields(tiny(name), fields), store=tmp_path)


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DM(statistic="median"), "`statistic` must be `mean` or `cf`; got 'median'"),
        (lambda: DM(features="layers"), "`features` must be `flat` or `channel`; got 'layers'"),
        (lambda: DM(networks="store"), "`networks` must be `fresh` or `queue` or `interpolated`; got 'store'"),
        (lambda: DM(class_term="accuracy"), "`class_term` must be `none` with fresh networks.*Use networks='queue'"),
        (lambda: IDM(class_term="trained"), "other than `trained` with queue networks.*Use networks='interpolated'"),
        (lambda: IDM(last_snapshot=3), "`last_snapshot` must be None with queue networks.*Leave it out"),
        (lambda: NCFM(last_snapshot=2), "from 1 to the buffer's 1; got 2. Lower it, or raise the recipe's `snapshots`"),
        (lambda: NCFM(amplitude=1.5), r"`amplitude` must be in \[0, 1\]; got 1.5"),
        (lambda: NCFM(expert=dd.ExpertRecipe(whiten=True)), "`clip` must be False where .* whitened.*clip=False"),
        (lambda: NCFM(frequencies=0), "`frequencies` must be a whole number of at least 1; got 0"),
        (lambda: IDM(queue=0), "`queue` must be a whole number of at least 1; got 0"),
        (lambda: IDM(queue_every=0), "`queue_every` must be a whole number of at least 1; got 0"),
        (lambda: IDM(queue_steps=-1), "`queue_steps` must be a whole number of at least 0; got -1"),
        (lambda: DM(batch_real=0), "`batch_real` must be a whole number of at least 1; got 0"),
        (lambda: DM(lr_img=0.0), "`lr_img` must be positive and finite; got 0.0"),
        (lambda: DM(weight=-1.0), "`weight` must be positive and finite"),
        (lambda: DM(momentum_img=1.0), r"`momentum_img` must be in \[0, 1\); got 1.0"),
        (lambda: IDM(class_weight=-1.0), "`class_weight` must be a finite number of at least 0"),
        (lambda: DM(init="mix"), "`init` must be `real` or `noise`; got 'mix'"),
        (lambda: DM(ipc=2.0), "`ipc` must be"),
        (lambda: DM(factor=0), "`factor` must be a whole number of at least 1; got 0"),
        (lambda: DM(storage="int4"), "`storage` must be"),
        (lambda: DM(train=dd.TrainRecipe(loss="gift")), "`train.loss` must be `ce` .*got `gift`. Leave `train.loss`"),
    ],
)
def test_what_no_method_can_have_is_refused_with_the_way_out(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_ways_out_lead_out() -> None:
    assert IDM(class_term="accuracy").networks == "queue"
    assert DM(networks="queue", class_term="accuracy").class_term == "accuracy"
    assert IDM(networks="interpolated", class_term="trained", last_snapshot=3).snapshots_read == 3
    assert NCFM(expert=dd.ExpertRecipe(snapshots=2), last_snapshot=2).snapshots_read == 2
    assert not NCFM(expert=dd.ExpertRecipe(whiten=True), clip=False).clip
    assert (DM().snapshots_read, IDM().snapshots_read, NCFM().snapshots_read) == (0, 0, 1)


def test_a_network_without_maps_has_no_channels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`model` must be a network with maps before its last layer.*`flat`"):
        dd.distill(pictures(), "idm", ipc=1, model="mlp", features="channel", store=tmp_path, progress=False)
    fields: dict[str, Any] = {"iterations": 1, "queue_steps": 1, "batch_real": 2}
    dd.distill(pictures(), "idm", ipc=1, model="mlp", features="flat", store=tmp_path, progress=False, **fields)


@pytest.mark.parametrize(("fields", "argument"), [({"ipc": 1}, "ipc"), ({"ipc": 2, "batch_real": 1}, "batch_real")])
def test_one_picture_for_batch_norms_of_one_pixel_is_refused(fields: dict[str, int], argument: str) -> None:
    expert = dataclasses.replace(NET, model="resnet9(norm=batch, width=4)")
    method = DM(**{**FEW, **fields, "expert": expert})
    with pytest.raises(InputError, match=f"`{argument}` must be such that no batch is a single picture.*resnet9"):
        dd.distill(pictures(), method, progress=False)
    dd.distill(pictures(), DM(**{**FEW, "ipc": 2, "batch_real": 2, "expert": expert}), progress=False)


def test_one_real_picture_of_a_class_for_such_batch_norms_is_refused() -> None:
    expert = dataclasses.replace(NET, model="resnet9(norm=batch, width=4)")
    x = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 0, 0, 1, 0])
    real = dd.Images(train=(x, y), val=(x, y))
    few = {**FEW, "ipc": 1, "mirror": True, "batch_real": 2, "expert": expert}
    with pytest.raises(InputError, match=r"`data` must be such that no batch is a single picture.*resnet9"):
        dd.distill(real, DM(**few), progress=False)


def test_the_cost_of_a_network_whose_batch_norms_see_one_pixel_is_told() -> None:
    """By the name of the method the estimate comes first: it showed the network one picture."""
    told = dd.estimate("digits", "dm", ipc=2, model="resnet9(norm=batch, width=4)")
    assert told.seconds > 0


def test_data_that_cannot_fill_stored_images_is_refused(tmp_path: Path) -> None:
    real = pictures()
    most = int(real.train.labels.bincount().min())
    with pytest.raises(InputError, match=r"`factor` must be a divisor of 8 .*Give `factor=2`"):
        dd.distill(real, DM(**FEW, factor=3), store=tmp_path, progress=False)
    with pytest.raises(InputError, match=rf"`ipc` must be at most {most // 4} with factor=2.*Lower `ipc` or `factor`"):
        dd.distill(real, DM(**{**FEW, "ipc": most}, factor=2), store=tmp_path, progress=False)
    with pytest.raises(InputError, match="`ipc` must be at most"):
        next(iter(DM(**{**FEW, "ipc": 10_000}).distill(real, Run())))


def test_what_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"iteration 1 is not finite. Lower `lr_img` \(now 1e\+38\)"):
        last(DM(**{**FEW, "lr_img": 1e38, "weight": 1e38, "iterations": 9}), Run())
    far = r"iteration 1 takes the images \S+e\+\d+ standard deviations away. Lower `lr_img` \(now 1e\+20\)"
    with pytest.raises(DivergedError, match=far):
        last(DM(**{**FEW, "lr_img": 1e20, "iterations": 1}), Run())
    wild = dataclasses.replace(NET, lr=1e30)
    with pytest.raises(
        DivergedError, match=r"network 0 (of the queue is|gives .* that are) not finite. Lower the `expert`'s `lr`"
    ):
        last(IDM(**{**FEW, "expert": wild, "iterations": 9}, class_term="none"), Run())
