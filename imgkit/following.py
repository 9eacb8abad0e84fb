"""A run on several ranks: rank 0 is imgkit as ever, and the others follow it.

Rank 0 reads the recipe, decides, saves and writes, alone. What takes time it announces (see `world`), and each rank
does its share: an update, answers to pictures, features of pictures. A follower gets the run's recipe, table and
weights from rank 0 and writes nothing but into a temporary folder.
"""

import copy
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgkit.data.batches import Batch, EvalReader, Place
from imgkit.data.index import Index
from imgkit.device import choose_device, choose_workers, in_turn
from imgkit.errors import memory_told
from imgkit.features import BATCH
from imgkit.models.folder import load_model_folder
from imgkit.plugin_files import Plugin, require_same_plugins
from imgkit.predict_ranks import Share
from imgkit.prepare import reopen
from imgkit.recipe.plan import PhasePlan
from imgkit.run import RunFolder
from imgkit.scoring import score
from imgkit.screen import Screen
from imgkit.setup import Setup, trainer_of
from imgkit.shares import ALONE, Shards
from imgkit.signals import Request, hear_signals
from imgkit.trainer import Trainer, Update
from imgkit.trunk import Uses, computed, whole_network
from imgkit.world import Left, World, as_tensor, current, ranks_here

_FILES = ("recipe.toml", "run.json", "data/index.csv")


def lead(folder: RunFolder, request: Request) -> None:
    """Have the other ranks, if there are any, open a run; what signals ask of any of them is asked of `request`."""
    world = current()
    if world is not None:
        world.request = request
        world.send("open", {name: as_tensor((folder.path / name).read_bytes()) for name in _FILES}, name=folder.name)
        world.wait()  # another machine may have to read all of the data


def shared(setup: Setup, phase: PhasePlan, trainer: Trainer, start: int) -> Shards:
    """How the updates of a phase from `start` on are shared; the other ranks take up weights, moments and averages.

    Updates on features are made by rank 0 alone, since handing out each would take longer than making it.
    """
    if whole_network(setup, phase) is None:
        return ALONE
    shards = setup.shards(phase)
    if shards.world is not None:
        state = {f"model/{name}": tensor for name, tensor in trainer.model.state_dict().items()}
        state |= {f"train/{name}": tensor for name, tensor in trainer.tensors().items()}
        shards.world.send("train", state, phase=phase.name, start=start, numbers=trainer.numbers())
    return shards


def follow(world: World, plugins: tuple[Plugin, ...]) -> int:
    """Do what rank 0 says until it says that it is over; returns the exit code that it names.

    Raises:
        Lost: if another rank is gone.
        ImgkitError: what stops this one.
    """
    with (
        tempfile.TemporaryDirectory(prefix="imgkit-") as place,
        hear_signals() as world.request,
        _Follower(world, Path(place), plugins) as follower,
    ):
        return follower.run()


@dataclass(frozen=True, eq=False)
class Scene:
    """What a follower answers with, and to which images."""

    model: nn.Module
    reader: EvalReader
    device: torch.device


class _Follower(ExitStack):
    """What a rank other than 0 does, one message after the other."""

    def __init__(self, world: World, place: Path, plugins: tuple[Plugin, ...]) -> None:
        super().__init__()
        self._world, self._place, self._plugins = world, place, plugins
        self._setup: Setup | None = None  # of a run that is trained
        self._scene: Scene | None = None
        self._share: Share | None = None  # of a prediction
        self._updates: Iterator[Update] = iter(())
        self._batches: Generator[Batch, None, None] | None = None

    def run(self) -> int:
        """Until rank 0 says "end"."""
        while True:
            message, tensors = self._world.receive()
            try:
                match message["do"]:
                    case "end":
                        return int(message["code"])
                    case "open":
                        self._open(message, tensors)
                    case "scene":
                        self._see(message, tensors)
                    case "predict":
                        self._predict(message, tensors)
                    case "files":
                        assert self._share is not None, "a prediction is announced"
                        self._share.answers(message["files"])
                    case "train":
                        self._train(message, tensors)
                    case "update":
                        self._world.give_back((message, tensors))
                        next(self._updates)
                    case "score":
                        self._score(tensors)
                    case "features":
                        self._features(message, tensors)
            except Left:
                pass  # rank 0 left it, for what it says next

    def _open(self, message: Mapping[str, Any], files: Mapping[str, Tensor]) -> None:
        """Take up a run as a resume does: nothing is chosen anew, and the data are those that it began with."""
        folder = RunFolder(self._write(message["name"], files))
        require_same_plugins(folder, self._plugins)
        setup = self._setup = reopen(folder, fresh=False, workers=None, screen=Screen(quiet=True))
        model = copy.deepcopy(setup.model)  # what is scored may be other weights than those that train
        self._take(Scene(model, setup.reader(), setup.device))
        self._world.wait()

    def _take(self, scene: Scene) -> None:
        if self._scene is not None:
            self._scene.reader.close()
        self._scene = scene
        self.callback(scene.reader.close)

    def _see(self, message: Mapping[str, Any], files: Mapping[str, Tensor]) -> None:
        """Take up a finished network and a table of images."""
        place = self._write("scene", files)
        loaded = load_model_folder(place)
        index = Index.read_csv(place / "index.csv", Path(message["root"]), tuple(message["classes"]), message["task"])
        device = choose_device(message["device"])
        workers = choose_workers(message["workers"], device, ranks_here())
        reader = EvalReader(
            index,
            preprocessing=loaded.preprocessing,
            batch_size=BATCH,
            workers=workers,
            max_pixels=message["max_pixels"],
            in_turn=in_turn(device, workers, ranks_here()),
        )
        self._take(Scene(loaded.model, reader, device))

    def _predict(self, message: Mapping[str, Any], files: Mapping[str, Tensor]) -> None:
        """Take up a finished network, to label the files that come."""
        loaded = load_model_folder(self._write("predict", files))
        self._share = Share(
            self._world, loaded, choose_device(message["device"]), message["precision"], message["max_pixels"]
        )

    def _write(self, name: str, files: Mapping[str, Tensor]) -> Path:
        place = self._place / name
        for file, content in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(content.numpy().tobytes())
        return place

    def _train(self, message: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        setup = self._setup
        assert setup is not None, "a run is open"
        phase, start = next(one for one in setup.plan.phases if one.name == message["phase"]), message["start"]
        trainer = trainer_of(setup)  # as in a resume: a fresh one takes up what is given
        trainer.restore(_below("model/", tensors), _below("train/", tensors), message["numbers"], phase)
        if self._batches is not None:
            self._batches.close()
        if self._scene is not None:
            self._scene.reader.close()
        batches = self._batches = setup.batches(phase, start - phase.first_step, phase.stop - phase.first_step)
        self.callback(batches.close)
        shards = setup.shards(phase)

        def updates() -> Iterator[Update]:
            with memory_told(setup.no_memory(phase)), setup.files_told():
                yield from trainer.train_at(phase, batches, start, lambda step: 0.0, shards)

        self._updates = updates()

    def _score(self, tensors: Mapping[str, Tensor]) -> None:
        scene = self._scene
        assert scene is not None, "a network is known"
        scene.model.load_state_dict(_below("model/", tensors), strict=True)
        score(scene.model, scene.reader, tensors["rows"].numpy(), device=scene.device)

    def _features(self, message: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        setup, scene = self._setup, self._scene
        assert setup is not None, "a run is open"
        assert scene is not None, "so a network is known"
        scene.model.load_state_dict(_below("model/", tensors), strict=True)
        phases = [one for one in setup.plan.phases if one.name == message["phase"]]
        transform = setup.transform(phases[0]) if phases else setup.preprocessing
        places: list[Place] = [(epoch, row, use) for epoch, row, use in tensors["places"].tolist()]
        for _ in computed(replace(setup, model=scene.model), Uses(transform, message["seed"], places)):
            pass


def _below(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
