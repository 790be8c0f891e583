"""Networks that paint in one call: what they are shown, what becomes of their pictures, and which are refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.errors import BadModel, NoSurroundings, NotFinite
from jobs.feedforward import Convention
from jobs.schema import JobReport
from tests.factories import mask_with, noise, png
from tests.worker import painters, tiny
from tests.worker.painters import SIDE_PX, Painter, hole_in, smooth_picture
from tests.worker.painting import painted, run
from tests.worker.tasks import STEPS, task_of, uploads
from tests.worker.tasks import task as diffusion_task
from worker.engine.engine import Engine
from worker.engine.profile import profile
from worker.engine.session import Session
from worker.families.base import Family
from worker.families.feedforward import CALLS, FeedForward
from worker.models.loading import Loader
from worker.models.models import Models
from worker.settings import WorkerSettings

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


def read(file: Path, **changed: Any) -> FeedForward:
    entry = painters.entry(file=file, **changed)
    loaded = Loader(WorkerSettings(device="cpu")).read("tiny", entry).place()
    assert isinstance(loaded, FeedForward)
    return loaded


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_network_that_was_trained_paints_what_surrounds_the_hole(convention: Convention, tmp_path: Path) -> None:
    file = painters.save(painters.NETWORKS[convention](painters.trained()), tmp_path / "net.pt")
    model, entry = read(file, convention=convention), painters.entry(convention)
    ours, mean = [], []
    for seed in range(6):
        picture, hole = smooth_picture(seed), hole_in(seed)
        result = painted(picture, hole, model, entry)
        assert (result[hole == 0] == picture[hole == 0]).all()
        truth = picture[hole > 0].astype(int)
        ours.append(np.abs(result[hole > 0] - truth).mean())
        mean.append(np.abs(picture[hole == 0].mean(axis=0) - truth).mean())
    assert np.mean(ours) < 0.5 * np.mean(mean)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_file_paints_as_the_network_that_was_saved_at_every_call(convention: Convention, tmp_path: Path) -> None:
    file = painters.save(painters.NETWORKS[convention](painters.trained()), tmp_path / "net.pt")
    loaded, entry = read(file, convention=convention), painters.entry(convention)
    photo, mask = noise((70, 90, 3)), mask_with(np.s_[20:40, 30:60], (70, 90))
    first, *others = [painted(photo, mask, loaded, entry) for _ in range(4)]
    assert all((other == first).all() for other in others)
    direct = painted(photo, mask, painters.model(convention), entry)
    assert np.abs(direct.astype(int) - first).max() <= 1


def test_torchscripts_optimizer_does_not_rewrite_a_network_between_two_calls() -> None:
    recorder, _ = asked_of("lama", PICTURE, MASK, 0.5)
    assert recorder.optimized and not any(recorder.optimized)


class Recorder(torch.nn.Module):
    """Keeps what it is called with, and returns a picture of one value; ``value`` as the convention has it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.inputs = value, list[tuple[torch.Tensor, ...]]()
        self.optimized = list[bool]()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        self.inputs.append(inputs)
        self.optimized.append(torch._C._get_graph_executor_optimize())
        return torch.full_like(inputs[0][:, :3], self.value)


def asked_of(convention: Convention, picture: Any, mask: Any, value: float) -> tuple[Recorder, Any]:
    """What a network of a convention was called with for a job, and the job's picture."""
    recorder = Recorder(value)
    model = FeedForward("tiny", recorder, convention, SIDE_PX)
    recorder.inputs.clear()
    return recorder, painted(picture, mask, model, painters.entry(convention))


PICTURE = np.full((64, 64, 3), (255, 0, 51), np.uint8)
MASK = mask_with(np.s_[20:40, 30:60], (64, 64))
HOLE = torch.from_numpy(MASK > 0)


def test_lama_is_shown_the_picture_with_a_black_hole_and_a_mask_that_is_1_in_it() -> None:
    recorder, result = asked_of("lama", PICTURE, MASK, 0.6)
    ((image, mask),) = recorder.inputs
    assert mask.shape == (1, 1, 64, 64) and torch.equal(mask[0, 0], HOLE.float())
    assert image.shape == (1, 3, 64, 64) and (image[0, :, HOLE] == 0).all()
    assert torch.allclose(image[0, :, ~HOLE], torch.tensor([[1.0], [0.0], [0.2]]))
    assert (result[MASK > 0] == 153).all() and (result[MASK == 0] == PICTURE[MASK == 0]).all()


def test_migan_is_shown_four_channels_and_returns_minus_1_to_1() -> None:
    recorder, result = asked_of("migan", PICTURE, MASK, 0.2)
    ((shown,),) = recorder.inputs
    assert shown.shape == (1, 4, 64, 64) and torch.equal(shown[0, 0], 0.5 - HOLE.float())
    assert (shown[0, 1:, HOLE] == 0).all()
    assert torch.allclose(shown[0, 1:, ~HOLE], torch.tensor([[1.0], [-1.0], [-0.6]]))
    assert (result[MASK > 0] == 153).all() and (result[MASK == 0] == PICTURE[MASK == 0]).all()


def test_what_is_hidden_in_part_is_hole_and_what_is_not_stays_the_photos_own() -> None:
    mask = MASK.copy()
    mask[0:8], mask[50:60] = 100, 30
    recorder, result = asked_of("lama", PICTURE, mask, 1.0)
    ((_, hole),) = recorder.inputs
    assert (hole[0, 0].numpy() == (mask >= 100)).all()
    assert (result[50:60] == PICTURE[50:60]).all()
    assert (result[0:8] == round(255 * 100 / 255)).all(axis=(0, 1)).tolist() == [False, True, False]


def test_a_smaller_canvas_is_mirrored_to_the_one_size_and_comes_back_as_it_was() -> None:
    photo, mask = noise((40, 200, 3)), mask_with(np.s_[10:20, 50:90], (40, 200))
    model, entry = painters.model("migan"), painters.entry("migan")
    one = task_of(entry, crop="off")
    (canvas,) = one.open({"image": png(photo), "mask": png(mask)})
    assert canvas.mask.shape == (64, 64)  # sides of canvases are multiples of 64
    small = type(canvas)(canvas.image[:24, :40], canvas.mask[:24, :40])
    (state,) = model.prepare(small, one.parameters, lambda _: None)
    assert state.key.latent_shape == (1, 3, SIDE_PX, SIDE_PX)
    framed = (state.picture[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    assert (framed[:24, :40] == small.image).all() and (framed[24:48, :40] == small.image[::-1]).all()
    assert (framed[:24, 40:] == small.image[:, ::-1][:, :24]).all()
    model.advance([state], model.predict([state]))
    result = model.finish([state])[0]
    assert result.shape == small.image.shape
    assert (result[small.mask == 0] == small.image[small.mask == 0]).all()


def test_the_seed_changes_nothing() -> None:
    results = [painted(smooth_picture(1), MASK, painters.model("lama"), painters.entry(), seed=seed) for seed in (1, 2)]
    assert (results[0] == results[1]).all()


def test_a_job_has_one_step_and_is_done_with_it() -> None:
    one = run(smooth_picture(1), MASK, painters.model("lama"), painters.entry())
    assert isinstance(one.outcome, JobReport)
    assert (one.step, one.steps, one.outcome.timings.steps, one.outcome.approximate) == (1, 1, 1, [])


def test_a_mask_that_leaves_nothing_known_fails_the_job_and_a_nearly_full_one_does_not() -> None:
    full, faint = np.full((64, 64), 255, np.uint8), np.full((64, 64), 120, np.uint8)
    faint[:4] = 100
    with pytest.raises(NoSurroundings, match="needs_surroundings"):
        painted(PICTURE, full, painters.model("lama"), painters.entry())
    recorder, _ = asked_of("lama", PICTURE, faint, 0.5)
    assert (recorder.inputs[0][1][0, 0].numpy() == (faint == 120)).all()  # what is masked least stays known


def test_numbers_that_are_none_fail_the_job() -> None:
    with pytest.raises(NotFinite, match="another convention"):
        asked_of("lama", PICTURE, MASK, float("nan"))


# ---- in a batch, and with others


def outcome(session: Session, *tasks: Any) -> list[Any]:
    session.run(list(tasks))
    session.shutdown()
    for one in tasks:
        assert isinstance(one.outcome, JobReport), one.outcome
        assert one.outcome.mask.changed_outside_mask == 0
    return [np.asarray(Image.open(io.BytesIO(one.images[0]))) for one in tasks]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_jobs_share_a_pass_and_each_has_the_picture_that_it_has_alone(convention: Convention) -> None:
    model, entry = painters.model(convention), painters.entry(convention)
    session = Session(Engine({"tiny": model}, max_rows=8), codec_threads=1)
    tasks = [task_of(entry) for _ in range(3)]
    for seed, one in enumerate(tasks):
        session.take(one, {"image": png(smooth_picture(seed)), "mask": png(MASK)})
        canvas = session.opening.pop(one).result()
        session.engine.join(one.prepare(canvas, model))
        session.running.append(one)
    results = outcome(session, *tasks)
    assert [one.outcome.timings.batch_mean for one in tasks if isinstance(one.outcome, JobReport)] == [3.0] * 3
    for seed, result in enumerate(results):
        alone = painted(smooth_picture(seed), MASK, model, entry)
        assert np.abs(alone.astype(int) - result).max() <= 1


class OneRow(torch.nn.Module):
    """As a network that was traced with one picture may be."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image[:1] + 0.5 * mask[:1]


def test_a_network_that_takes_one_picture_at_a_time_gets_one() -> None:
    model = FeedForward("tiny", OneRow(), "lama", SIDE_PX)
    session = Session(Engine({"tiny": model}, max_rows=8), codec_threads=1)
    tasks = [task_of(painters.entry()) for _ in range(2)]
    for seed, one in enumerate(tasks):
        session.take(one, {"image": png(smooth_picture(seed)), "mask": png(MASK)})
        session.engine.join(one.prepare(session.opening.pop(one).result(), model))
        session.running.append(one)
    for seed, result in enumerate(outcome(session, *tasks)):
        assert (result[MASK == 0] == smooth_picture(seed)[MASK == 0]).all()
        assert (result[MASK > 0] == 128).all()


def test_jobs_of_a_denoising_model_run_beside_and_a_dropped_one_leaves_no_trace() -> None:
    painter = FeedForward("painter", painters.trained(), "lama", SIDE_PX)
    models: dict[str, Family] = {"tiny": tiny.shared_model("sd", "concat"), "painter": painter}
    session = Session(Engine(models, max_rows=8), codec_threads=1)
    tasks = [diffusion_task("sd", 1), task_of(painters.entry(), model="painter"), diffusion_task("sd", 2)]
    left = task_of(painters.entry(), model="painter")
    for one in (left, *tasks):
        session.take(one, uploads())
    session.turn()
    session.drop(left)
    outcome(session, *tasks)
    assert left.outcome is None and not session.engine.live
    assert [one.step for one in tasks] == [STEPS, 1, STEPS]


def test_the_workers_models_hold_one_beside_others_and_count_its_bytes(tmp_path: Path) -> None:
    painter = painters.save(painters.trained(), tmp_path / "net.pt")
    entries = {"painter": painters.entry(file=painter), "other": painters.entry(file=painter)}
    size_bytes = sum(4 * part.numel() for part in painters.trained().parameters())
    models = Models(entries, Loader(WorkerSettings(device="cpu")).read, budget_bytes=size_bytes)
    assert models.ready("painter", ()) and list(models) == ["painter"]
    assert not models.ready("other", {"painter"})  # no room while the first one is in use
    assert models.ready("other", ()) and list(models) == ["other"]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_it_is_measured_as_any_model_is(convention: Convention) -> None:
    speeds = profile(painters.model(convention), painters.entry(convention), max_rows=4, budget_s=0.05)
    assert speeds and speeds[0].area_px == SIDE_PX**2 and speeds[0].pass_s > 0


# ---- files that are refused


def weights(file: Path) -> None:
    torch.save(painters.trained().state_dict(), file)


def four_channels(file: Path) -> None:
    painters.save(painters.OneSize(painters.trained()), file)


class Halves(torch.nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image[..., ::2, ::2]


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda _: None, "there is no such file"),
        (lambda file: file.write_bytes(b"nothing"), "no TorchScript network can be read"),
        (weights, "no TorchScript network can be read"),
        (four_channels, "cannot be called as 'lama'"),
        (lambda file: painters.save(Halves(), file), r"returns \(1, 3, 32, 32\) for a picture of \(1, 3, 64, 64\)"),
    ],
)
def test_a_file_that_is_no_such_network_is_refused(write: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    write(tmp_path / "net.pt")
    with pytest.raises(BadModel, match=reason):
        read(tmp_path / "net.pt")


def test_a_network_of_one_size_is_tried_at_that_size(tmp_path: Path) -> None:
    painters.save(painters.OneSize(painters.trained()), tmp_path / "net.pt")
    with pytest.raises(BadModel, match="another size than it was trained at"):
        read(tmp_path / "net.pt", convention="migan", size_px=128)


class Writer(torch.nn.Module):
    """What a hostile file can do: write to the worker's disk."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = str(file)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image + torch.from_file(self.file, True, 4, dtype=torch.uint8).fill_(65).sum()


def test_torchscript_can_write_files_and_so_needs_permission(tmp_path: Path) -> None:
    painters.save(Writer(tmp_path / "written"), tmp_path / "net.pt")
    entry = painters.entry(file=tmp_path / "net.pt").model_copy(update={"allow_pickle": False})
    with pytest.raises(BadModel, match="TorchScript is a program"):
        Loader(WorkerSettings(device="cpu")).read("tiny", entry)
    assert not (tmp_path / "written").exists()
    read(tmp_path / "net.pt")
    assert (tmp_path / "written").read_bytes() == b"AAAA"


def test_every_convention_is_called_in_its_way() -> None:
    assert CALLS.keys() == painters.NETWORKS.keys() == set(CONVENTIONS)
    assert isinstance(painters.trained(), Painter)
