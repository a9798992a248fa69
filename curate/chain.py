"""The whole chain of a study, step by step, each step an artefact that is made once.

::

    corpus -> pretrain -> scores -> labels --+-> transfer ----------------+
        |                                    |                            |
        +-> prompts -------------------------+-> exports -> arms -> arm_scores -> verdict -> report
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import curate.chain_steps as steps
from curate.choices import chosen_names, chosen_seeds
from curate.export import ExportJob
from curate.held import name_for_commands
from curate.made import Made, Step
from curate.sources import HELDOUT_BATCHES, Sources
from curate.study import Study
from curate.sweeping import (
    identity,
    items_request,
    predictor_request,
    questionnaires,
    run_coarse,
    run_sweep,
)
from scoring.jobs import Asked
from scoring.prefetch import Target
from scoring.suite.schema import SPLITS, Split
from scoring.sweep import SweepRequest
from trainers.plan import TrainingPlan, check_arms
from trainers.schedule import schedule
from windows.checkpoints.folder import Checkpoint, catalog
from windows.errors import ConfigError
from windows.progress import Reporter
from windows.store import Artefact, Recipe
from windows.workers import WorkerPool

if TYPE_CHECKING:
    from curate.gather import Findings

LOGS = "logs"  # of what a cluster writes, beside a study's artefacts


class Chain:
    """A study's steps. Each method makes what is missing before it, and returns its artefact.

    Parameters
    ----------
    out
        The folder of the study's artefacts; hold a `StoreLock` on it while making.
    pool
        Where training and scoring run; by default `study.config.workers` processes, started when
        the first job comes.
    look_only
        Make nothing; see `curate.made.Made`.
    """

    def __init__(
        self,
        study: Study,
        out: Path,
        *,
        reporter: Reporter,
        pool: WorkerPool | None = None,
        look_only: bool = False,
    ) -> None:
        self.study = study
        self.config = study.config
        self.out = out
        self.reporter = reporter
        self.made = Made(out, reporter, look_only=look_only)
        self.sources = Sources(study, self.made, reporter)
        self._pool = pool

    @property
    def pool(self) -> WorkerPool:
        """The worker processes."""
        if self._pool is None:
            self._pool = WorkerPool(self.config.workers)
        return self._pool

    def corpus(self) -> Artefact:
        """Write the embedded run's token files, or note a given run's checksums."""
        return self.sources.corpus()

    def pretrain(self) -> Artefact:
        """Pre-train the embedded run, or note a given run's checkpoints."""
        return self.sources.pretrain()

    def scores(self) -> Artefact:
        """Score every checkpoint on the items that label."""
        run, asked = self.pretrain(), questionnaires(self.study, "label")
        # What the tables call the checkpoints is not told by the run's content.
        of = {"run": self.sources.run.name, "steps": self.study.edges}
        coarse = self.config.sweep.coarse
        chosen = {"coarse": coarse} if coarse else {}
        parameters = {**identity(self.study, asked), **of, **chosen}
        recipe = Recipe("scores", "coarse" if coarse else "run", 2, parameters, (run,))
        make = run_coarse if coarse else run_sweep
        return self._scored("scores", recipe, lambda: self.sources.targets(), asked, make)

    def labels(self) -> Artefact:
        """Label every window on every task."""
        scores = self.scores()
        parameters = {"labels": self.study.labels, "windows": self.config.windows}
        recipe = Recipe("labels", self.study.labels.rule, 2, parameters, (scores,))
        return self.made.artefact(
            "labels",
            recipe,
            lambda part: steps.write_labels(
                scores.path,
                self.sources.windows(),
                self.study.labels,
                part,
                self.pool,
                self.reporter,
            ),
        )

    def predictors(self) -> Artefact:
        """Measure the generalization predictors of every checkpoint, on the items that label."""
        run, asked = self.pretrain(), predictor_request(self.study)
        parameters = {**identity(self.study, (asked,)), "run": self.sources.run.name}
        recipe = Recipe("predictors", "run", 1, {**parameters, "steps": self.study.edges}, (run,))
        return self._scored("predictors", recipe, lambda: self.sources.targets(), asked)

    def nulls(self, checks: Sequence[str] = ()) -> Artefact:
        """Ask the named nulls of the strongest hops; see `curate.null_chain.nulls`."""
        from curate.null_chain import nulls

        return nulls(self, checks)

    def replay(self) -> Artefact:
        """Train every window's data in shuffled orders from one checkpoint, and score."""
        run, section = self.pretrain(), self.study.transfer
        parameters = {
            **identity(self.study, (self._replay_request(),)),
            "task": self.study.labels.task,
            "transfer": section.model_dump(exclude={"threshold"}),
            "windows": self.config.windows,
            "lr": self.learning_rate(section.checkpoint),
            "optimizer": self.study.training.optimizer,
            "seed": self.config.seed,
        }
        recipe = Recipe("replay", f"step{section.checkpoint}", 2, parameters, (run, self.corpus()))
        return self.made.artefact("transfer", recipe, self._replay)

    def transfer(self) -> Artefact:
        """Judge whether the labels transfer to shuffled replays."""
        labels, replay = self.labels(), self.replay()
        parameters = {"task": self.study.labels.task, "threshold": self.study.transfer.threshold}
        recipe = Recipe("transfer", self.study.labels.rule, 2, parameters, (labels, replay))
        return self.made.artefact(
            "transfer",
            recipe,
            lambda part: steps.write_transfer(
                labels.path, replay.path, self.sources.windows(), parameters, part
            ),
        )

    def prompts(self) -> Artefact:
        """Write the token ids of every prompt of the suite, for decontamination."""
        asked = [self.request(split) for split in SPLITS]
        recipe = Recipe("prompts", "suite", 2, identity(self.study, asked), (self.pretrain(),))
        return self.made.artefact(
            "exports",
            recipe,
            lambda part: steps.write_prompts(
                self.sources.checkpoints()[0].path, self.request, part
            ),
        )

    def exports(self, mixture: str | None = None, seed: int | None = None) -> list[Artefact]:
        """Export one mixture or all, for one arm seed or all."""
        names = chosen_names(mixture, self.config.mixtures, "mixture")
        return self._exports([(name, number) for name in names for number in self._seeds(seed)])

    def _exports(self, pairs: list[tuple[str, int]]) -> list[Artefact]:
        recipes = [self._export_recipe(name, number) for name, number in pairs]
        jobs = {
            recipe.label: self._export_job(*pair)
            for recipe, pair in zip(recipes, pairs, strict=True)
            if not self.made.look_only
        }
        make = partial(self._in_workers, steps.build_export, jobs, "exporting shards")
        return self.made.several("exports", recipes, make)

    def arms(self, arm: str | None = None, seed: int | None = None) -> list[Artefact]:
        """Train one arm or all, with one seed or all."""
        names = chosen_names(arm, self.config.arms, "arm")
        pairs = [(name, number) for name in names for number in self._seeds(seed)]
        exports = self._exports([(self.config.arms[name], number) for name, number in pairs])
        shards = dict(zip(pairs, exports, strict=True))
        run = self.pretrain()
        plans = {pair: self._plan(*pair, run, shards[pair]) for pair in pairs}
        check_arms(list(plans.values()))
        # The plan does not say which rows the held-out loss is of.
        heldout = self.study.end_step, HELDOUT_BATCHES
        recipes, jobs = [], {}
        for pair in pairs:
            label = f"{pair[0]}-seed{pair[1]}"
            parents = (run, shards[pair])
            parameters = {"plan": plans[pair], "heldout": heldout}
            recipes.append(Recipe("arm", label, 1, parameters, parents))
            jobs[label] = (plans[pair], shards[pair].path)
        return self.made.several("arms", recipes, partial(self._train_arms, jobs))

    def arm_scores(self) -> Artefact:
        """Score the arms' checkpoints, and the base, on the items that verify."""
        arms = self.arms()
        asked = (self.request("verify"),)
        parameters = {**identity(self.study, asked), "study": self.config.name}
        recipe = Recipe("scores", "arms", 2, parameters, (self.pretrain(), *arms))
        return self._scored("arm_scores", recipe, lambda: self._arm_checkpoints(arms), asked)

    def verdict(self) -> Artefact:
        """Judge whether the arms were controlled."""
        scores, transfer, arms = self.arm_scores(), self.transfer(), self.arms()
        parameters = {"verdict": self.config.verdict, "task": self.study.labels.task}
        recipe = Recipe("verdict", "arms", 2, parameters, (scores, transfer, *arms))
        return self.made.artefact(
            "verdict",
            recipe,
            lambda part: steps.write_verdict(scores.path, transfer.path, arms, self.study, part),
        )

    def report(self, found: "Findings | None" = None) -> Artefact:
        """Write the report of what was found; by default of the whole study."""
        found = found or self.findings()
        settings = self.study.resolved()["study"].items()
        study = {key: value for key, value in settings if key not in ("workers", "sweep")}
        told = {"study": study, "file": name_for_commands(self.study)}
        recipe = Recipe("report", self.config.name, 2, told, tuple(found.artefacts))

        def make(part: Path) -> None:
            from curate.gather import write_report

            write_report(found, part)

        return self.made.artefact("report", recipe, make)

    def findings(self, *, so_far: bool = False) -> "Findings":
        """Return all that a report shows, made where it is missing.

        Parameters
        ----------
        so_far
            Make the labels only; transfer check and verdict come in where they are made already.
        """
        from curate.gather import Findings

        judged = not so_far or self.is_made("verdict")
        checked = judged or self.is_made("transfer")
        labels, truth = self.labels(), self.sources.truth()
        transfer = self.transfer() if checked else None
        verdict = self.verdict() if judged else None
        names = self.config.mixtures if judged else {}
        pairs = [(name, number) for name in names for number in self._seeds(None)]
        exports = self._exports(pairs)
        return Findings(
            study=self.study,
            sources=self.sources,
            labels=labels.path,
            transfer=transfer.path if transfer else None,
            verdict=verdict.path if verdict else None,
            exports=dict(zip(pairs, exports, strict=True)),
            truth=truth,
            artefacts=[each for each in self.made.artefacts() if each.kind != "report"],
        )

    def is_made(self, step: str) -> bool:
        """Tell whether a step's artefact exists."""
        return step in self.study.steps and bool(getattr(self.look(), step)().id)

    def plan(self) -> list[Step]:
        """List the study's artefacts, those made and those to make, and make none."""
        looking = self.look()
        for name in self.study.steps:
            getattr(looking, name)()
        return list(looking.made.steps())

    def look(self) -> "Chain":
        """Return the same steps, none of which makes anything."""
        return Chain(self.study, self.out, reporter=Reporter(quiet=True), look_only=True)

    def request(self, split: Split) -> SweepRequest:
        """Return what checkpoints are asked in a split."""
        return items_request(self.study, split)

    def _scored(
        self,
        step: str,
        recipe: Recipe,
        of: Callable[[], Sequence[Target]],
        asked: Asked,
        how: Callable[..., None] = run_sweep,
    ) -> Artefact:
        def make(part: Path) -> None:
            how(self.study, of(), asked, part, self.out / LOGS, self.pool, self.reporter)

        return self.made.artefact(step, recipe, make)

    def _seeds(self, seed: int | None) -> list[int]:
        return chosen_seeds(self.study.training.seeds, seed)

    def _export_recipe(self, name: str, seed: int) -> Recipe:
        parents = (self.corpus(), self.labels(), self.prompts())
        parameters = {
            "mixture": self.config.mixtures[name],
            "task": self.study.labels.task,
            "name": name,
            "seed": self._arm_seed(seed),
        }
        return Recipe("shards", f"{name}-seed{seed}", 1, parameters, parents)

    def _export_job(self, name: str, seed: int) -> ExportJob:
        return ExportJob(
            name=name,
            mixture=self.config.mixtures[name],
            seed=self._arm_seed(seed),
            run=self.sources.run,
            data=self.sources.data_folder(),
            windows=tuple(self.sources.windows()),
            labels=self.labels().path / steps.LABELS,
            task=self.study.labels.task,
            prompts=self.prompts().path / steps.PROMPTS,
        )

    def _arm_seed(self, seed: int) -> int:
        # Arms of different studies draw differently; arms of one study by their own number.
        return 1000 * self.config.seed + seed

    def _plan(self, arm: str, seed: int, run: Artefact, shards: Artefact) -> TrainingPlan:
        training, config = self.study.training, self.sources.run
        return TrainingPlan(
            arm=arm,
            seed=seed,
            base=run.content,
            base_step=training.base_step,
            init=training.init,
            data=shards.content,
            stage=config.stage,
            steps=training.steps,
            every=training.every,
            batch=config.instances_per_batch(training.base_step),
            lr=self.learning_rate(training.base_step),
            optimizer=training.optimizer,
        )

    def learning_rate(self, step: int) -> float:
        """Return the study's learning rate, or the run's own at a step."""
        if self.study.training.lr is not None:
            return self.study.training.lr
        if self.study.run.pretraining is None:
            raise ConfigError(
                "a given run does not tell its learning rate", where="training.lr", do="set it"
            )
        return schedule(self.study.run.pretraining).lr(step)

    def _replay_request(self) -> SweepRequest:
        # The check is on the task whose labels mixtures select by; the others would only cost time.
        return replace(self.request("verify"), tasks=(self.study.labels.task,))

    def _replay(self, part: Path) -> None:
        request = self._replay_request()
        lr = self.learning_rate(self.study.transfer.checkpoint)
        jobs = steps.replay_jobs(self.study, self.sources, request, lr, part)
        with self.reporter.task("shuffled replays", len(jobs)) as advance:
            self.pool.map(steps.run_replay, jobs, on_done=lambda index, result: advance())

    def _in_workers(
        self,
        function: Callable[[Any], None],
        jobs: dict[str, Any],
        title: str,
        missing: list[Recipe],
    ) -> None:
        work = [(self.out, recipe, jobs[recipe.label]) for recipe in missing]
        with self.reporter.task(title, len(work)) as advance:
            self.pool.map(function, work, on_done=lambda index, result: advance())

    def _train_arms(
        self, jobs: dict[str, tuple[TrainingPlan, Path]], missing: list[Recipe]
    ) -> None:
        tokens = self.sources.heldout_tokens()
        base = self.sources.checkpoint(self.study.training.base_step).path
        work = {label: (plan, base, shards, tokens) for label, (plan, shards) in jobs.items()}
        self._in_workers(steps.build_arm, work, "training arms", missing)

    def _arm_checkpoints(self, arms: Sequence[Artefact]) -> list[Checkpoint]:
        base = self.sources.checkpoint(self.study.training.base_step)
        found = [Checkpoint(f"{self.config.name}/base", base.stage, base.step, base.path)]
        for arm in arms:
            found += catalog(arm.path / "checkpoints", steps.arm_run(self.config.name, arm.path))
        return found
