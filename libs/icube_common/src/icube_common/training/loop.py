"""The training loop: one function, a step function in, the trained model out."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import broadcast, send_to_device
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import RunFolder
from icube_common.losses.logit_scale import cap_logit_scales
from icube_common.training import checkpoints
from icube_common.training.checkpoints import (
    Progress,
    load_final_weights,
    reduce_sums,
    resume_newest,
    save,
    start_fresh,
)
from icube_common.training.config import TrainConfig, learning_rate_at
from icube_common.training.sampler import (
    BatchOrder,
    GlobalDropout,
    MicroBatches,
    StepRandom,
    derive_seed,
    local_rows,
    seed_global,
)
from icube_common.training.state import RELATIVE_RATE, TrainingState, assemble, make_accelerator
from icube_common.training.validation import check_config

Step = Callable[[nn.Module, Any, StepRandom], Mapping[str, Tensor]]
Validate = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class FitResult:
    """Result of `fit`.

    Attributes:
        model: the unwrapped module in eval mode: best-validation weights with early stopping, averaged ones with EMA.
        steps: optimiser steps done in all.
        seconds: spent training, earlier state of a resumed run included.
        resumed_from: step of the checkpoint that the run was resumed from, None for a fresh run.
        stopped_because: ``"max_steps"``, ``"early_stopping_patience"`` or ``"max_minutes"``.
        best_step: step of the best validation, None without patience.
        is_main: whether this process is the one that writes the model.
    """

    model: nn.Module
    steps: int
    seconds: float
    resumed_from: int | None
    stopped_because: str
    best_step: int | None
    is_main: bool

    def summary(self, run: RunFolder) -> dict[str, Any]:
        """Values for the output of a command: ``steps``, ``seconds``, ``resumed_from``, and the ``last`` losses."""
        metrics = run.read_metrics()
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "resumed_from": self.resumed_from,
            "last": metrics[-1] if metrics else {},
        }


def fit(
    model: nn.Module,
    step: Step,
    dataset: Any,
    *,
    config: TrainConfig,
    run: RunFolder | None,
    collate: Callable[[list[Any]], Any] | None = None,
    validate: Validate | None = None,
    weights: Sequence[float] | NDArray[Any] | None = None,
    resume: bool = False,
    worker_init: Callable[[int], None] | None = None,
    name: str = "training",
) -> FitResult:
    """Train a model.

    Reproducible from ``config.seed``: on a CPU the weights are bit-identical however often the run was stopped or
    killed and resumed, with any number of workers, as long as ``dataset[draw]`` depends on the draw alone.

    Args:
        model: the module to train, on any device; parameters with ``requires_grad=False`` stay as they are. It is put
            into train mode: a part that must stay in eval mode (a frozen backbone) overrides ``train``.
        step: ``step(model, batch, random) -> {"loss": ..., further terms}``: scalar tensors, ``loss`` the mean over the
            local rows. ``model`` is the wrapped module: call it, and reach attributes through your own reference.
        dataset: has ``__len__`` and ``__getitem__(draw: Draw)``.
        config: how to train.
        run: an existing run folder (`open_run` makes one); None for a training of seconds that leaves no files:
            neither checkpoints nor logs.
        collate: list of samples -> batch, torch's default otherwise. Tensors in lists, tuples and mappings, and
            objects with ``.to(device)``, are moved to the device.
        validate: ``validate(module) -> {"loss": ..., ...}``, called in eval mode, without gradients, on the averaged
            weights where EMA is on, in the main process only.
        weights: one weight per sample, for drawing with replacement.
        resume: continue from the newest whole checkpoint, from the beginning where there is none yet.
        worker_init: called with the worker's number in each loading process.
        name: for the progress bar, which is removed at the end of a training without a run folder.

    Raises:
        InputError: a configuration that does not fit the machine or the data; a loss that is not finite; a checkpoint
            of another run; checkpoints in the folder without ``resume``; without a run folder, what needs one.
    """
    device_type = check_config(config)
    if config.eval_steps and validate is None:
        raise InputError(f"eval_steps={config.eval_steps}: there is no validation set here; set it to 0")
    if run is None and (resume or config.early_stopping_patience or config.report_to != "none"):
        raise InputError("training without a run folder: no resume, early_stopping_patience=0 and report_to=none only")
    order = BatchOrder(len(dataset), seed=config.seed, weights=weights)
    accelerator = make_accelerator(config, run, device_type)
    accelerator.wait_for_everyone()  # the main process makes the run folder
    devices = [torch.cuda.current_device()] if device_type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            state = assemble(model, config, run, accelerator, order)
            progress = resume_newest(state) if resume else start_fresh(state)
            resumed_from = progress.step if resume else None
            _record_start(state, resumed_from)
            rows = local_rows(
                config.batch_size,
                gradient_accumulation_steps=config.gradient_accumulation_steps,
                rank=accelerator.process_index,
                processes=accelerator.num_processes,
            )
            loader = DataLoader(
                dataset,
                batch_sampler=MicroBatches(
                    order,
                    batch_size=config.batch_size,
                    gradient_accumulation_steps=config.gradient_accumulation_steps,
                    rows=rows,
                    start=progress.step,
                    stop=config.max_steps,
                ),
                collate_fn=collate,
                num_workers=config.num_workers,
                worker_init_fn=worker_init,
                pin_memory=device_type == "cuda",
                # without its own generator the loader would draw from the global one
                generator=torch.Generator().manual_seed(derive_seed(config.seed, progress.step)),
            )
            with _progress_bar(state, progress, name) as bar:
                stopped_because = _train(state, progress, step, validate, iter(loader), rows, bar)
            _finish(state, progress, stopped_because)
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
        # accelerate replaced the module's forward by one under autocast
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return FitResult(
        model=model.eval(),
        steps=progress.step,
        seconds=progress.seconds,
        resumed_from=resumed_from,
        stopped_because=stopped_because,
        best_step=progress.best_step,
        is_main=accelerator.is_main_process,
    )


def _train(
    state: TrainingState,
    progress: Progress,
    step: Step,
    validate: Validate | None,
    batches: Iterator[Any],
    rows: slice,
    bar: Any,
) -> str:
    """Optimiser steps until there is a reason to stop, which is returned."""
    config, accelerator, loss_tracker = state.config, state.accelerator, state.loss_tracker
    device = accelerator.device
    start, earlier = time.monotonic(), progress.seconds
    logged_at, logged_step = start, progress.step
    state.wrapped.train()
    stop = _reason_to_stop(state, progress, 0.0)
    while stop is None:
        rate = learning_rate_at(config, progress.step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group.get(RELATIVE_RATE, 1.0)
        for micro in range(config.gradient_accumulation_steps):
            batch = send_to_device(_next_batch(batches), device, non_blocking=True)
            random = StepRandom(
                config.seed,
                progress.step,
                micro,
                rows=rows,
                total=config.batch_size // config.gradient_accumulation_steps,
                device=device,
            )
            seed_global(config.seed, progress.step, micro, accelerator.process_index, device)
            several = accelerator.num_processes > 1 and device.type == "cpu"
            with accelerator.accumulate(state.wrapped):
                with GlobalDropout() if several else contextlib.nullcontext():
                    terms = step(state.wrapped, batch, random)
                accelerator.backward(terms["loss"])
                loss_tracker.add(progress.step + 1, terms)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(state.wrapped.parameters(), config.max_grad_norm or math.inf)
                    if accelerator.scaler is None:  # the fp16 scaler overflows on purpose and skips such steps
                        loss_tracker.add(progress.step + 1, {"grad_norm": norm})
                state.optimizer.step()
                if accelerator.sync_gradients:
                    cap_logit_scales(state.logit_scales)
                state.optimizer.zero_grad()
        if state.ema is not None:
            state.ema.update(progress.step)
        progress.step += 1
        if device.type == "cpu":
            loss_tracker.collect()
        now = time.monotonic()
        progress.seconds = earlier + now - start
        bar.update()

        stop = _reason_to_stop(state, progress, now - start)
        if stop or progress.step % config.logging_steps == 0:
            speed = (progress.step - logged_step) * config.batch_size / max(now - logged_at, 1e-9)
            logged_at, logged_step = now, progress.step
            means = _log_training(state, progress, rate, speed)
            bar.set_postfix(loss=f"{means['loss']:.4g}", refresh=False)
        improved = False
        if validate is not None and config.eval_steps and progress.step % config.eval_steps == 0:
            improved = _validate(state, progress, validate)
            stop = stop or _reason_to_stop(state, progress, now - start)
        if stop or improved or progress.step % config.checkpointing_steps == 0:
            save(state, progress)
    return stop


def _next_batch(batches: Iterator[Any]) -> Any:
    try:
        return next(batches)
    except InputError as error:
        # a loading process sends its whole traceback as the message; the last line is what the user has to read
        _, marker, message = str(error).strip().splitlines()[-1].partition(f"{InputError.__name__}: ")
        raise InputError(message if marker else str(error)) from error


def _reason_to_stop(state: TrainingState, progress: Progress, elapsed: float) -> str | None:
    config, accelerator = state.config, state.accelerator
    if config.early_stopping_patience and progress.bad_validations >= config.early_stopping_patience:
        return "early_stopping_patience"
    if progress.step >= config.max_steps:
        return "max_steps"
    if config.max_minutes:
        late = elapsed >= config.max_minutes * 60
        if accelerator.num_processes > 1:  # clocks differ: the main process decides
            late = bool(broadcast(torch.tensor([int(late)], device=accelerator.device)).item())
        if late:
            return "max_minutes"
    return None


def _record_start(state: TrainingState, resumed_from: int | None) -> None:
    config, run, accelerator = state.config, state.output, state.accelerator
    accelerator.wait_for_everyone()  # no process reads a checkpoint any more
    if run is not None:
        values: dict[str, Any] = {
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
            "mixed_precision": config.mixed_precision,
            "seed": config.seed,
        }
        if accelerator.device.type == "cuda":
            values["device_name"] = torch.cuda.get_device_name()
        if resumed_from is not None:
            values["resumed_from"] = resumed_from
            run.truncate_metrics(resumed_from)
            checkpoints.sweep(run)
        run.update_environment(**values)
    if state.run is not None and config.report_to != "none":
        options = {
            # curves that a killed run drew past its last checkpoint are drawn again
            "tensorboard": {"purge_step": resumed_from},
            "wandb": {"dir": str(state.run.path), "name": state.run.path.name},
        }
        project = "tensorboard" if config.report_to == "tensorboard" else "icube"
        accelerator.init_trackers(project, init_kwargs={config.report_to: options[config.report_to]})


def _progress_bar(state: TrainingState, progress: Progress, name: str) -> Any:
    # `disable` is only passed where it is True: TQDM_DISABLE rules otherwise
    silent: dict[str, Any] = {} if state.accelerator.is_main_process else {"disable": True}
    return progress_bar(
        total=state.config.max_steps,
        initial=progress.step,
        unit="step",
        desc=name,
        leave=state.run is not None,
        file=sys.stderr,
        **silent,
    )


def _log_training(state: TrainingState, progress: Progress, rate: float, speed: float) -> dict[str, float]:
    state.loss_tracker.collect()
    sums = reduce_sums(state, *state.loss_tracker.take())
    means = {name: value / sums["counts"][name] for name, value in sums["sums"].items()}
    record = {**means, "learning_rate": rate, "seconds": progress.seconds, "samples_per_second": speed}
    _log(state, progress.step, record)
    return means


def _log(state: TrainingState, step: int, record: Mapping[str, float]) -> None:
    if state.output is not None:
        state.output.append_metrics({"step": step, **record})
    state.accelerator.log(dict(record), step=step)


def _validate(state: TrainingState, progress: Progress, validate: Validate) -> bool:
    """Validate in the main process; whether this is the best value so far (with patience only)."""
    state.loss_tracker.collect()
    accelerator, device = state.accelerator, state.accelerator.device
    value = torch.zeros(1, dtype=torch.float64, device=device)
    if accelerator.is_main_process:
        averaged = state.ema.applied() if state.ema is not None else contextlib.nullcontext()
        state.module.eval()
        with averaged, torch.no_grad():
            terms = {name: float(number) for name, number in validate(state.module).items()}
        for name, number in terms.items():
            if not math.isfinite(number):
                raise InputError(f"step {progress.step}: validation {name} is {number}, the training stopped")
        value.fill_(terms["loss"])
        _log(state, progress.step, {f"validation_{k}": v for k, v in terms.items()})
    state.wrapped.train()
    if not state.config.early_stopping_patience:
        return False
    loss = float(broadcast(value).item())
    if progress.best_value is not None and loss >= progress.best_value:
        progress.bad_validations += 1
        return False
    progress.best_value, progress.best_step, progress.bad_validations = loss, progress.step, 0
    return True


def _finish(state: TrainingState, progress: Progress, stopped_because: str) -> None:
    """Put the final weights into the module and record why the training ended."""
    load_final_weights(state, progress)
    if state.output is not None:
        late = stopped_because == "max_minutes"
        state.output.update_environment(
            stopped_because=stopped_because,
            steps=progress.step,
            training_seconds=round(progress.seconds, 1),
            budget_stopped_at=progress.step if late else None,
            reproducible=(
                f"no: max_minutes={state.config.max_minutes} ended it at step {progress.step}, and a clock is never "
                f"the same twice; --resume with another budget continues from there"
                if late
                else "from the seed, on the same machine type"
            ),
        )
    state.accelerator.wait_for_everyone()
