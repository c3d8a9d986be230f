"""The matching loop of `TrajectoryMatching`: what one outer iteration asks of an engine and does with its answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from dd.base.bounds import ANY
from dd.base.devices import moved
from dd.base.seeding import child
from dd.data import Images
from dd.errors import DamagedError, InputError, refuse, warn
from dd.experts import ExpertStore, make_student
from dd.inner import (
    InnerStep,
    Matching,
    NotCompiledError,
    Problem,
    Road,
    Student,
    Target,
    compiler_present,
    scores_alone,
    solve,
    worth_compiling,
)
from dd.methods.base import Candidate, Run
from dd.methods.outer import State, adam, sgd
from dd.methods.start import committee_logits, correct, logits_in, pick_real, representative, scores
from dd.methods.trajectory import watch
from dd.methods.trajectory.given import GivenSet, images_of, logits_of
from dd.methods.trajectory.terms import balance, matching_points, perturb, softmax_pull, window_end
from dd.models import MODELS, ModelSpec, as_spec, uses_batch_stats
from dd.synthetic import Crops, SyntheticImages, draw_crops, tile
from dd.transforms.whiten import Transform

if TYPE_CHECKING:
    from dd.methods.trajectory.matching import TrajectoryMatching

_MOST: Final = float(ANY[0])
"""What no step size and no number of an image reaches: sets and recipes hold no larger one."""


class Loop:
    """One run of the matching loop: what does not change between its iterations."""

    def __init__(
        self, method: TrajectoryMatching, real: Images, run: Run, transform: Transform, store: ExpertStore
    ) -> None:
        self.method, self.real, self.run = method, real, run
        self.transform, self.store = transform, store
        self.dtype = run.dtype
        self.student = self._student()
        self.layout = method.layout
        self.labels = torch.arange(real.num_classes).repeat_interleave(method.ipc).to(run.device)
        self.pictures = len(self.labels) * self.layout.copies
        self.batch = min(method.batch_syn or len(self.labels), self.pictures)
        self.dsa = method.expert.dsa()
        self.road = self._road()

    def _student(self) -> Student:
        student = make_student(self.method.expert, self.real, 0, self.dtype)
        module, run = student.module.to(self.run.device), self.run
        self.whole = self._mixes(module)
        if run.micro_batch is not None and self.whole:
            raise refuse(
                "micro_batch",
                "None for a network with batch statistics, whose batch mean is not a sum over images",
                run.micro_batch,
                "Use norm=instance, or leave `micro_batch` out.",
            )
        return Student(module, autocast=run.autocast)

    def _mixes(self, module: nn.Module) -> bool:
        """Whether a picture's scores depend on the others of its step, which then cannot be split."""
        spec, real = as_spec(self.method.expert.model), self.real
        if uses_batch_stats(module):
            return True
        if isinstance(spec, ModelSpec) and spec.name in MODELS:
            return False
        noise = torch.randn((4, real.channels, *real.size), generator=child(0, "check", "pictures"))
        return not scores_alone(Student(module), noise.to(self.run.device, self.dtype))

    def start(self) -> State:
        """Images, step size and counters before the first iteration."""
        method, real = self.method, self.real
        logits = None
        if isinstance(method.init, GivenSet):
            images, logits = self._given(method.init)
        elif method.init == "noise":
            sides = [method.canvas * side for side in real.size]
            images = torch.randn((len(self.labels), real.channels, *sides), generator=child(self.run.seed, "init"))
        else:
            rows = self._rows()
            images = self.layout.mosaic(tile(self.transform.forward(real.train.pixels(rows)), method.canvas))
            if method.labels == "learned":
                experts = range(method.expert.experts if method.init == "correct" else 1)
                thetas = [self._last(expert) for expert in experts]
                found = [scores(self.student, theta, real, self.transform, rows) for theta in thetas]
                small = self.layout.small
                logits = committee_logits(found, self.labels.repeat_interleave(small))
                logits = logits.unflatten(0, (-1, small)).mean(1) if small > 1 else logits
        images = images.to(self.run.device, self.dtype)
        state = {
            "images": images,
            "lr": torch.tensor(method.lr_init, dtype=self.dtype, device=self.run.device),
            "iteration": torch.tensor(0),
            "failures": torch.tensor(0),
            "still": torch.tensor(0),
            "skipped": torch.tensor(0),
        }
        if method.ema:
            state["ema"] = images
        return state if logits is None else {**state, "logits": logits}

    def _given(self, start: GivenSet) -> tuple[Tensor, Tensor | None]:
        """(images, logits of their labels where labels are learned) of a set to start from."""
        images, labels = images_of(start, self.transform)
        if self.method.labels != "learned":
            return images, None
        if labels.ndim == 2:
            return images, logits_of(labels).to(self.run.device, self.dtype)
        x = images.to(self.run.device, self.dtype)
        found = logits_in(self.student, self._last(0), self.layout.decode(x))
        return images, self.layout.total(found) / self.layout.copies

    def _last(self, expert: int) -> Tensor:
        """θ of the snapshot that the start is made with."""
        return self.store.read(expert, [self.method.snapshots_read])[0].to(self.run.device, self.dtype)

    def _rows(self) -> Tensor:
        """The training images to start from `[K · ipc · canvas² · factor²]`."""
        method, seed = self.method, self.run.seed
        count = method.ipc * method.canvas**2 * self.layout.small
        if method.init == "real":
            return pick_real(self.real, count, seed)
        args = (self.student, self._last(0), self.real, self.transform, count)
        if method.init == "correct":
            return correct(*args, seed)
        return representative(*args, method.init_space, seed)

    def iterate(self, state: State) -> tuple[State, dict[str, float | int | str]]:
        """One outer iteration: the new state and what is logged.

        Raises:
            DivergedError: it comes to nothing, as `dd.methods.trajectory.watch` says.
        """
        new, log = self._iterated(state)
        new["skipped"] = torch.tensor(watch.skipped(state) + ("skipped" in log))
        if int(new["iteration"]) == self.method.iterations:
            watch.check_end(self.method, new, log, lambda: self._trains(new))
        return new, log

    def _trains(self, state: State) -> bool:
        """Whether a fresh network can be trained on the set of a state."""
        return watch.trains(self.student, self._set(state["images"], state), self.run)

    def _iterated(self, state: State) -> tuple[State, dict[str, float | int | str]]:
        iteration = int(state["iteration"])
        problem, where = self._problem(state, iteration)
        with self.run.products:
            matching = self._engine(problem)
        if where["crops"] is not None:
            matching = dataclasses.replace(matching, images=where["crops"].put(matching.images, state["images"]))
        matching = self._of_stored(matching)
        loss, beta = float(matching.loss), float(state["lr"])
        new: State = {**state, "iteration": torch.tensor(iteration + 1)}
        rms = float(matching.images.square().mean().sqrt())
        log: dict[str, float | int | str] = {
            "iteration": iteration + 1,
            "lr": beta,
            "expert": where["expert"],
            "start": where["start"],
        }
        if problem.soft and not problem.wants_labels:
            new["labels"] = self.layout.first(problem.labels)
        if matching.labels is not None:
            labels = softmax_pull(self.layout.first(problem.labels), matching.labels)
            matching = dataclasses.replace(matching, labels=labels)
        if not _finite(matching):
            return watch.failed(self.method, new, where), {**log, "skipped": watch.NOT_FINITE}
        log.update(loss=loss, grad_rms=rms, grad_lr=float(matching.lr))
        new["failures"] = torch.tensor(0)
        new["still"] = watch.still(self.method, state, loss / sum(t.weight for t in problem.targets))
        if loss > self.method.skip_above:
            return new, {**log, "skipped": f"{watch.ABOVE} {self.method.skip_above:g}"}
        if where["phi"] != 1:  # ∂L/∂β of a step size φ β
            matching = dataclasses.replace(matching, lr=matching.lr * where["phi"])
        updated = {**new, **self._update(state, matching)}
        if not all(bool((updated[k].abs() < _MOST).all()) for k in ("images", "logits") if k in updated):
            return watch.failed(self.method, new, where), {**log, "skipped": watch.UPDATE}
        if not 0 < float(updated["lr"]) < _MOST:
            return watch.failed(self.method, new, where), {**log, "skipped": watch.STEP_SIZE}
        return updated, log

    def _of_stored(self, matching: Matching) -> Matching:
        """Gradients in the stored images and their labels, of those in the pictures."""
        if self.layout.copies == 1:
            return matching
        labels = None if matching.labels is None else self.layout.total(matching.labels)
        return dataclasses.replace(matching, images=self.layout.transpose(matching.images), labels=labels)

    def _problem(self, state: State, iteration: int) -> tuple[Problem, dict[str, Any]]:
        method, seed = self.method, self.run.seed
        experts = method.expert.experts
        order = torch.randperm(experts, generator=child(seed, "experts", iteration // experts))
        expert = int(order[iteration % experts])
        end = window_end(method.current_start_epoch, method.max_start_epoch, iteration, method.window_iterations)
        start = int(torch.randint(method.min_start_epoch, end, (), generator=child(seed, "start", iteration)))
        points = matching_points(method.student_steps, method.expert_epochs, method.intermediate)
        rows = [start, *(start + after for _, after, _ in points)]
        read = [t.to(self.dtype) for t in self.store.read(expert, rows)]
        for row, target in zip(rows[1:], read[1:], strict=True):
            if torch.equal(read[0], target):
                raise DamagedError(
                    f"expert {expert} of {self.store.folder} has equal snapshots {start} and {row}. "
                    "Remove its file; `dd.buffer` makes it anew."
                )
        theta, *ends = (moved(t, self.run.device) for t in read)
        if method.perturb > 0:
            views = self.student.views(theta)
            theta = perturb(views, method.perturb, method.perturb_norm, child(seed, "perturb", iteration))
        phi = balance(start, method.max_start_epoch) if method.balance else 1.0
        images = self.layout.decode(state["images"])
        labels = self._labels(state, images, ends[-1])
        steps, crops = self._steps(child(seed, "inner", iteration)), None
        if method.canvas > 1:
            steps, crops = self._crop(steps, images, child(seed, "crops", iteration))
            images, labels = crops.take(images), labels[crops.index]
        problem = Problem(
            student=self.student,
            theta=theta,
            targets=[Target(step, t, w) for (step, _, w), t in zip(points, ends, strict=True)],
            images=images,
            labels=labels,
            lr=state["lr"] * phi if method.balance else state["lr"],
            steps=steps,
            momentum=method.momentum,
            gradient=method.gradient,
            truncate=method.truncate,
            labels_constant=method.labels == "assigned",
        )
        return problem, {"expert": expert, "start": start, "phi": phi, "crops": crops}

    @torch.no_grad()
    def _labels(self, state: State, pictures: Tensor, target: Tensor) -> Tensor:
        """int64 `[n]`, or probabilities `[n, K]`: the target snapshot's, or the softmax of the learned logits.

        One for each picture, and equal ones for those of a stored image.
        """
        found, layout = self.labels, self.layout
        if self.method.labels == "learned":
            found = state["logits"].softmax(1)
        elif self.method.labels == "assigned":
            parts = [self.student.logits(target, x) for x in pictures.split(500)]
            found = torch.cat(parts).softmax(1)
            found = found if layout.copies == 1 else layout.total(found) / layout.copies
        return layout.repeat(found)

    def _steps(self, generator: torch.Generator) -> list[InnerStep]:
        """Index chunks from permutations, taken from the end (the short one first), and one draw a step.

        A canvas is in its step `canvas_samples` times, after all others of its chunk.
        """
        count, size = self.pictures, self.batch
        pool: list[Tensor] = []
        steps = []
        for _ in range(self.method.student_steps):
            if not pool:
                pool = list(torch.randperm(count, generator=generator).split(size))
            index = pool.pop().repeat(self.method.canvas_samples)
            draw = self.dsa.draw(len(index), self.real.size, generator)
            steps.append(InnerStep(moved(index, self.run.device), draw))
        return steps

    def _crop(
        self, steps: list[InnerStep], canvases: Tensor, generator: torch.Generator
    ) -> tuple[list[InnerStep], Crops]:
        """A crop for every place in every step, and the steps in terms of these crops, which come one after the other.

        An engine then needs to know nothing of canvases; it holds N · b crops and their gradient.
        """
        sides = canvases.shape[2], canvases.shape[3]
        crops = draw_crops(torch.cat([s.index for s in steps]), sides, self.real.size, generator)
        places = torch.arange(len(crops.index), device=canvases.device).split([len(s.index) for s in steps])
        return [InnerStep(place, s.draw) for place, s in zip(places, steps, strict=True)], crops

    def _road(self) -> Road:
        method, run, module = self.method, self.run, self.student.module
        batch = self.batch
        device, compiled, hybrid = run.device.type, run.compile, run.precision == "hybrid"
        if (compiled or hybrid) and not compiler_present(device):
            raise self._refuse_compiling("no compiler is present", "Install g++, or Triton on a GPU.")
        if compiled is None:
            seen = method.iterations * method.student_steps * batch * method.canvas_samples
            compiled = run.engine == "adjoint" and worth_compiling(module, self.real.size, seen, device)
        micro = run.micro_batch
        if micro is None and device == "cpu" and not self.whole:
            micro = 50
        return Road(run.engine, micro, run.reuse, (compiled or hybrid) and run.precision != "bf16", hybrid)

    def _refuse_compiling(self, where: str, way_out: str) -> InputError:
        """`compile=True`, or what needs it, where it cannot be."""
        if self.run.precision == "hybrid":
            return refuse("precision", f"`fp32` where {where}", "'hybrid'", way_out)
        return refuse("compile", f"False or None where {where}", True, way_out)

    def _engine(self, problem: Problem) -> Matching:
        try:
            return solve(problem, self.road)
        except NotCompiledError as error:
            way_out = "Mend the compiler (`CXX` names another), empty torch's cache (a GPU's), or give compile=False."
            if self.run.compile or self.road.hybrid:
                raise self._refuse_compiling(f"kernels cannot be compiled ({error})", way_out) from error
            warn(f"kernels cannot be compiled ({error}); matching goes on without, to other last digits. {way_out}")
            self.road = dataclasses.replace(self.road, compiled=False)
            return solve(problem, self.road)

    def _update(self, state: State, matching: Matching) -> State:
        method = self.method
        if method.pixel_optimizer == "adam":
            new = adam(state["images"], matching.images, state, "images", method.lr_img)
        else:
            new = sgd(state["images"], matching.images, state, "images", method.lr_img, method.momentum_img)
        new.update(sgd(state["lr"], matching.lr, state, "lr", method.lr_lr, method.momentum_lr))
        if method.lr_mode == "positive":
            new["lr"] = torch.maximum(new["lr"], state["lr"] / 2)
        if matching.labels is not None:
            step_label, keep = method.lr_label, method.momentum_label
            new.update(sgd(state["logits"], matching.labels, state, "logits", step_label, keep))
        if method.ema:
            new["ema"] = method.ema * state["ema"] + (1 - method.ema) * new["images"]
        return new

    def candidates(self, state: State) -> tuple[Candidate, ...]:
        """The sets offered after this iteration: the images, and their average where one is kept."""
        done, every = int(state["iteration"]), self.method.candidate_every
        if done != self.method.iterations and (every == 0 or done % every):
            return ()
        names = ("last", "ema") if self.method.ema else ("last",)
        return tuple(Candidate(n, done, self._set(state["ema" if n == "ema" else "images"], state)) for n in names)

    def _set(self, images: Tensor, state: State) -> SyntheticImages:
        method = self.method
        recipe = dataclasses.replace(
            method.train,
            model=str(as_spec(method.expert.model)),
            lr=float(state["lr"]),
            augment=method.expert.augment,
            augment_mode=method.expert.augment_mode,
        )
        labels = self.labels
        if method.labels == "learned":
            labels = state["logits"].float().softmax(1)
        elif method.labels == "assigned" and "labels" in state:
            labels = state["labels"].float()
        return SyntheticImages(
            **self.layout.parts(images, labels.cpu()),
            classes=self.real.classes,
            recipe=recipe,
            transform=self.transform,
            method=method.describe(),
            canvas=method.canvas,
            canvas_samples=method.canvas_samples,
        )


def _finite(matching: Matching) -> bool:
    """Whether the loss and its gradients are, and their squares in the images."""
    told = (matching.loss, matching.images, matching.images.square().mean(), matching.lr, matching.labels)
    return all(bool(torch.isfinite(t).all()) for t in told if t is not None)
