"""Training: it learns, goes on after any end as if nothing had been, and stops with words when it must."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.convert import read_state_dict
from aai_pack.aai_models.align.data.items import MemorySource, augmented, draw
from aai_pack.aai_models.align.data.row_cache import RowCache
from aai_pack.aai_models.align.losses import align_loss
from aai_pack.aai_models.align.momentum import READINGS, TIED
from aai_pack.aai_models.align.train.run_file import read_head
from aai_pack.aai_models.align.train.trainer import RunOptions, Trainer, train
from aai_pack.aai_models.errors import TrainingError
from aai_pack.tests.unit.align_sets import make_set, memory_source, run, shard_source, small_config, small_model
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
QUIET = RunOptions(tensorboard=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("prepared"))


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    return [line["loss"] for line in lines if "loss" in line]


def same_end(a, b) -> None:
    first, second = load_file(a / "last.run"), load_file(b / "last.run")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(a) == losses(b)
    best = [load_file(folder / "best.safetensors") for folder in (a, b)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


class TestLearning:
    @pytest.mark.parametrize("reading", READINGS)
    def test_the_loss_falls_and_the_encoder_loads(self, tmp_path, reading):
        config = small_config(momentum_target=reading, epochs=5, noise=False)
        result, said = run(tmp_path, memory_source(config, heldout=[1, 6, 11]), config)
        curve = losses(tmp_path)
        assert result.finished and result.steps == len(curve) == 10
        assert sum(curve[-2:]) < 0.9 * sum(curve[:2])
        assert result.best >= 0 and any("epoch 5" in line for line in said)
        model = CAVTMAE.from_state_dict(read_state_dict(result.encoder))
        assert model.config.shared_depth == (reading in TIED) and model.has_images
        assert bool(read_head(result.encoder)) == (reading == "head")
        assert Image.open(tmp_path / "curves.png").size[0] == 760
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        kl = [line["momentum"] for line in lines if "momentum" in line]
        assert kl[0] == pytest.approx(0, abs=1e-4) and (max(kl) < 1e-4 if reading == "frozen" else kl[-1] > 1e-4)

    def test_half_precision(self, tmp_path):
        config = small_config(precision="bf16", epochs=5, noise=False)
        result, _ = run(tmp_path, memory_source(config), config, chunk=5)
        curve = losses(tmp_path)
        assert result.finished and sum(curve[-2:]) < 0.9 * sum(curve[:2])
        assert read_state_dict(result.encoder)["norm_a.weight"].dtype == torch.float32
        with pytest.raises(TrainingError, match="fp16 without a GPU"):
            run(tmp_path, memory_source(config), small_config(precision="fp16"))

    def test_text_and_visual_stems_stay_bit_for_bit(self, tmp_path):
        config, begun = small_config(momentum_target="both"), small_model().state_dict()
        result, _ = run(tmp_path, memory_source(config), config)
        ended = read_state_dict(result.encoder)
        still = [
            n
            for n in ended
            if n.startswith(("blocks_v", "patch_embed_v", "norm_v", "modality_v", "pos_embed", "norm."))
        ]
        assert len(still) > 20 and all(torch.equal(begun[name], ended[name]) for name in still)
        assert not torch.equal(begun["blocks_u.0.mlp.fc1.weight"], ended["blocks_u.0.mlp.fc1.weight"])

    @pytest.mark.parametrize("pictures", ["features", "none"])
    def test_features_made_elsewhere_and_no_pictures(self, tmp_path, pictures):
        config = small_config(momentum_target="audio", epochs=1)
        result, said = run(tmp_path, memory_source(config, pictures), config)
        assert result.finished and ("no pictures" in said[0]) == (pictures == "none")
        terms = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
        assert ("picture" in terms) == (pictures == "features")

    @pytest.mark.parametrize("reading", ["frozen", "both", "head"])
    def test_a_step_descends_equation_1(self, tmp_path, reading):
        """The loss of a step is `align_loss` of what its towers and its teacher make of the batch."""
        config = small_config(momentum_target=reading, epochs=1, noise=False)
        source = memory_source(config, count=8)
        stepper = Trainer(small_model(), source, config, tmp_path, options=QUIET).stepper
        items = list(source.train(0, 0, 1, 0))
        with torch.no_grad():
            for parameter in stepper.parameters:  # apart from its teacher, so that the third term is there
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
            stepper.averaged = True
            batch = stepper.assemble(items, 0)
            a, v = stepper.student.encode_audio(batch.fbank), stepper.student.picture(batch.states)
            v_momentum, a_momentum = stepper.teacher.picture(batch.states), stepper.teacher.audio(batch.fbank)
        expected = align_loss(a, batch.texts, v, v_momentum, config.tau, 0.4, a_momentum=a_momentum)
        terms = stepper.step(items, 0, 0.4, 0.0)
        assert terms["loss"] == pytest.approx(expected.item(), rel=1e-5)
        assert (terms["momentum"] > 1e-3) == (reading != "frozen")

    def test_some_clips_without_a_picture(self, tmp_path):
        """They train the text side; the picture side is the loss of the others alone."""
        config = small_config(momentum_target="frozen", epochs=1, noise=False)
        source = memory_source(config, "features", count=8)
        items = list(source.train(0, 0, 1, 0))
        trainer = Trainer(small_model(), source, config, tmp_path, options=QUIET)
        items[2].picture = items[5].picture = None
        terms = trainer.stepper.step(items, 0, 0.0, 0.0)
        kept = [n for n in range(8) if n not in (2, 5)]
        smaller = Trainer(small_model(), source, small_config(batch=6, momentum_target="frozen", noise=False), tmp_path)
        others = smaller.stepper.step([items[n] for n in kept], 0, 0.0, 0.0)
        assert terms["picture"] == pytest.approx(others["picture"], rel=1e-5)
        assert terms["text"] != pytest.approx(others["text"], rel=1e-3)

    def test_augmentation_is_drawn_by_clip_and_epoch_alone(self):
        config, fbank = small_config(mask_mel=20, mask_frames=50), torch.randn(1024, 128)
        first, again, later = (augmented(fbank, config, draw(config, epoch, 4)) for epoch in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, later) and not torch.equal(first, fbank)
        plain = small_config(noise=False)
        assert augmented(fbank, plain, draw(plain, 0, 4)) is fbank


class TestGoingOn:
    @pytest.mark.parametrize("reading", ["both", "head"])
    def test_from_memory(self, tmp_path, reading):
        config = small_config(momentum_target=reading)
        source = memory_source(config, heldout=[0, 5])
        run(tmp_path / "whole", source, config)
        for stop in (1, 3):
            result, _ = run(tmp_path / "parts", memory_source(config, heldout=[0, 5]), config, max_steps=stop)
            assert not result.finished and result.steps == stop
        result, said = run(tmp_path / "parts", memory_source(config, heldout=[0, 5]), config)
        assert result.finished and "going on from step 3" in said[0]
        same_end(tmp_path / "whole", tmp_path / "parts")

    def test_in_the_middle_of_a_shard_with_and_without_kept_rows(self, tmp_path, prepared):
        config = small_config()
        run(tmp_path / "whole", shard_source(prepared, config), config)
        for stop in (1, 3, 0):
            run(tmp_path / "parts", shard_source(prepared, config, tmp_path / "cache"), config, max_steps=stop)
        same_end(tmp_path / "whole", tmp_path / "parts")
        kept = RowCache(tmp_path / "cache", "x", 4, (2,), 6)
        assert kept.rows == 1 and kept.get(0) is None
        kept.put(0, torch.tensor([1.0, 2.0])), kept.put(3, torch.zeros(2))
        assert RowCache(tmp_path / "cache", "x", 4, (2,), 6).get(0).tolist() == [1.0, 2.0] and not kept.has(3)

    def test_after_ctrl_c_and_kill_9_at_the_command_line(self, tmp_path, prepared):
        """Stopped by SIGINT, then killed, then run to its end: the same as a run that nothing happened to."""
        names = ("batch", "epochs", "lr", "momentum", "schedule")
        config = small_config(epochs=4)
        settings = [f"--set={name}={getattr(config, name)}" for name in names]
        settings += [f"--set=tower.{name}={value}" for name, value in vars(config.tower).items()]
        settings += ["--set=alpha_ramp=0", "--checkpoint-minutes=0", "--device=cpu"]

        def command(folder, workers):
            words = [
                sys.executable,
                "-m",
                "aai_models.align",
                "train",
                str(prepared),
                str(folder),
                f"--workers={workers}",
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            return subprocess.Popen(
                [*words, *settings],
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )

        def steps(folder) -> int:
            log = folder / "log.jsonl"
            return len(log.read_text().splitlines()) if log.exists() else 0

        def wait_for(folder, count: int, process) -> None:
            while steps(folder) < count and process.poll() is None:
                time.sleep(0.01)

        process = command(tmp_path / "parts", 0)
        wait_for(tmp_path / "parts", 2, process)
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=300)[0]
        assert process.returncode == 130 and "the same command goes on" in words, words
        process = command(tmp_path / "parts", 0)
        wait_for(tmp_path / "parts", steps(tmp_path / "parts") + 2, process)
        process.kill()
        process.communicate()
        for folder, workers in (("parts", 0), ("whole", 1)):
            process = command(tmp_path / folder, workers)
            words = process.communicate(timeout=300)[0]
            assert process.returncode == 0 and "finished at step 8" in words, words
        assert list((tmp_path / "whole" / "tensorboard").glob("events*"))
        same_end(tmp_path / "whole", tmp_path / "parts")

    @pytest.mark.parametrize("stops", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_two_processes_at_the_command_line(self, tmp_path, prepared, capsys, stops):
        """The command of one process, started by `torchrun`: it trains, goes on, and chooses the best together."""
        tower = vars(small_config().tower).items()
        settings = [f"--set=tower.{name}={value}" for name, value in tower]
        settings += ["--set=batch=4", "--set=epochs=2", "--set=momentum_target=head", "--device=cpu", "--workers=0"]
        command = ["train", str(prepared), str(tmp_path), *settings]
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        launch += ["-m", "aai_models.align", *command]
        options = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "timeout": 300}
        if stops:
            first = subprocess.run([*launch, "--max-steps=2"], **options, capture_output=True, text=True)
            assert "stopped; the same command goes on at step 2" in first.stdout, first.stdout + first.stderr
        done = subprocess.run(launch, **options, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("going on from step 2" in done.stdout) == stops
        assert done.stdout.count("finished at step") == 1 and "epoch 2: a2t" in done.stdout
        assert main(command) == 1 and "processes was 2 and is 1" in capsys.readouterr().err


class TestStopping:
    def test_a_sound_that_is_no_number_is_named(self, tmp_path):
        config = small_config(noise=False)
        run(tmp_path / "good", memory_source(config), config, max_steps=1)
        source = memory_source(config)
        third = list(source.train(0, 0, 1, 0))[9]
        source._fbank[third.row, 7, 7] = float("nan")
        with pytest.raises(
            TrainingError, match=rf"NaN or infinite; not finite: the sound of {third.key}$|the sound of {third.key}\."
        ):
            run(tmp_path / "bad", source, config)
        saved, good = (load_file(tmp_path / name / "last.run") for name in ("bad", "good"))
        assert all(torch.equal(saved[n], good[n]) for n in good if n.startswith(("student", "optimizer")))

    def test_a_text_that_is_no_number_is_named(self, tmp_path):
        config = small_config()
        source = memory_source(config)
        source._texts[3] = float("inf")
        with pytest.raises(TrainingError, match="the text of 3"):
            run(tmp_path, source, config)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"lr": 2e-3}, "lr was 0.001 and is 0.002"),
            ({"momentum_target": "head"}, "momentum_target was visual_shared"),
        ],
    )
    def test_another_config_is_refused_with_the_difference(self, tmp_path, changes, words):
        config = small_config()
        run(tmp_path, memory_source(config), config, max_steps=1)
        other = small_config(**changes)
        with pytest.raises(TrainingError, match=words):
            run(tmp_path, memory_source(other), other)
        with pytest.raises(TrainingError, match=r"data was memory, 20 clips.* and is memory, 16"):
            run(tmp_path, memory_source(config, count=16), config)
        with pytest.raises(TrainingError, match="begun_with was"):
            train(small_model(5), memory_source(config), config, tmp_path, options=QUIET, say=lambda _: None)

    def test_a_file_that_is_no_training(self, tmp_path):
        config = small_config()
        (tmp_path / "last.run").write_bytes(b"no tensors")
        with pytest.raises(TrainingError, match="Training cannot be continued from"):
            run(tmp_path, memory_source(config), config)

    def test_a_full_disk_keeps_the_former_checkpoint(self, tmp_path):
        """A limit on the size of files stands for the disk."""
        config = small_config()
        run(tmp_path / "run", memory_source(config), config, max_steps=1)
        before = (tmp_path / "run" / "last.run").read_bytes()
        code = (
            "import resource, signal, sys; sys.path.insert(0, sys.argv[1])\n"
            "from aai_models.align.train import run_file as runfile\n"
            "from aai_models.align.cavt_mae import CAVTMAE\n"
            "from aai_models.align.config import AlignConfig\n"
            "from aai_models.align.momentum import Student, Teacher\n"
            "from aai_models.errors import TrainingError\n"
            "import pathlib, torch\n"
            "config = AlignConfig.from_json(sys.argv[3])\n"
            "student = Student(CAVTMAE.fresh(config.tower), config.momentum_target)\n"
            "optimizer = torch.optim.AdamW(student.trained().values())\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
            "ways = (runfile.save_last, (Teacher(student), optimizer, config, {})), (runfile.save_encoder, (config, {}))\n"
            "for save, rest in ways:\n"
            "    try: save(pathlib.Path(sys.argv[2]), student, *rest)\n"
            "    except TrainingError as error: print(error)\n"
        )
        command = [sys.executable, "-c", code, str(ROOT), str(tmp_path / "run" / "last.run"), config.to_json()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.count("Could not write last.run") == 2 and "Free some space" in done.stdout
        assert (tmp_path / "run" / "last.run").read_bytes() == before
        result, said = run(tmp_path / "run", memory_source(config), config)
        assert result.finished and "going on from step 1" in said[0]

    def test_too_few_clips(self, tmp_path):
        config = small_config(batch=64)
        with pytest.raises(TrainingError, match="do not fill one batch of 64"):
            run(tmp_path, memory_source(config), config)

    def test_texts_of_another_width(self, tmp_path):
        config = small_config()
        source = MemorySource(torch.randn(8, 1024, 128), torch.randn(8, 768), config=config)
        with pytest.raises(TrainingError, match=r"\(768,\)\. The towers give features of 64"):
            run(tmp_path, source, config)

    def test_pictures_that_the_reading_cannot_use(self, tmp_path):
        config = small_config(momentum_target="both")
        with pytest.raises(TrainingError, match="needs pictures"):
            run(tmp_path, memory_source(config, "features"), config)
