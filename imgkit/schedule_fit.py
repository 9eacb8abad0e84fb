"""Schedules whose own lengths do not fit the phase that they are for: what is said of them before the first step."""

from imgkit.duration import Duration
from imgkit.recipe.plan import PhasePlan, Plan
from imgkit.recipe.schedules import CosineRestarts, Multistep, OneCycle, Plateau, ScheduleSettings, Step, Warmed
from imgkit.schedules import make_schedule


def schedule_warnings(plan: Plan) -> tuple[str, ...]:
    """A warning for each length of a schedule that is not over, or does nothing, when its phase ends."""
    return tuple(text for phase in plan.phases if phase.lr is not None for text in _misfits(phase))


def last_rate(phase: PhasePlan) -> float:
    """The rate of the head group in the last update of a phase that takes gradient steps, nothing lowering it."""
    assert phase.lr is not None
    factor = make_schedule(phase.schedule, steps=phase.steps, steps_per_epoch=phase.steps_per_epoch)
    return phase.lr * factor((phase.steps - 1) / phase.steps)


def _misfits(phase: PhasePlan) -> list[str]:
    schedule = phase.schedule
    rise = (
        schedule.rise if isinstance(schedule, OneCycle) else schedule.warmup if isinstance(schedule, Warmed) else "0%"
    )
    start = _steps(rise, phase)
    if start >= phase.steps:
        return [f"phase {phase.name!r}: its warm-up of {start} steps takes all of its {phase.steps} steps"]
    found = _late_steps(phase, schedule)
    found += _cut_cycle(phase, schedule, start) if isinstance(schedule, CosineRestarts) else []
    found += _short_of_patience(phase, schedule, start) if isinstance(schedule, Plateau) else []
    if schedule.step_on == "epoch" and 0 < start < phase.steps_per_epoch:
        found.append(
            f"phase {phase.name!r}: its warm-up of {start} steps is shorter than an epoch, and with step_on = 'epoch' "
            f"the whole first epoch has the rate of its first step"
        )
    return found


def _late_steps(phase: PhasePlan, schedule: ScheduleSettings) -> list[str]:
    """Where a schedule of steps has one after the phase."""
    lengths = schedule.milestones if isinstance(schedule, Multistep) else ()
    lengths = (schedule.every,) if isinstance(schedule, Step) else lengths
    late = [length for length in lengths if _steps(length, phase) >= phase.steps]
    if not late:
        return []
    return [
        f"phase {phase.name!r}: its schedule {schedule.name!r} lowers the rate after {late[0]}, which is not before "
        f"the end of the phase's {phase.steps} steps"
    ]


def _short_of_patience(phase: PhasePlan, schedule: Plateau, warmup: int) -> list[str]:
    """Where a plateau has too few evaluations to lower the rate; the first one is the best so far, the last is late."""
    evaluations = sum(done * phase.steps_per_epoch >= warmup for done in range(1, phase.epochs))
    most = evaluations - 2
    if schedule.patience <= most:
        return []
    needed = phase.epochs + schedule.patience - most
    fits = f"patience = {most} or less, or " if most >= 0 else ""
    return [
        f"phase {phase.name!r}: its schedule 'plateau' with patience = {schedule.patience} never lowers the rate in "
        f"{phase.epochs} epoch{'s' * (phase.epochs > 1)}; it takes {fits}{needed} epochs"
    ]


def _cut_cycle(phase: PhasePlan, schedule: CosineRestarts, warmup: int) -> list[str]:
    """Where the last cycle does not end with the phase; the first one begins at step `warmup`."""
    start, length = warmup, max(1, _steps(schedule.first, phase))
    while start + length < phase.steps:
        start, length = start + length, length * schedule.mult
    done = phase.steps - start
    if done == length:
        return []
    assert phase.lr is not None
    whole = [end for end in (start, start + length) if end > warmup]
    units = phase.steps_per_epoch if all(n % phase.steps_per_epoch == 0 for n in (done, length, *whole)) else 1
    unit = "steps" if units == 1 else "epochs"
    return [
        f"phase {phase.name!r}: its last cosine cycle is cut after {done // units} of {length // units} {unit}, so the "
        f"rate ends at {last_rate(phase):.3g} instead of {phase.lr * schedule.end:.3g}; "
        f"{_whole_lengths(phase, schedule, [f'{end // units}' for end in whole], unit)}"
    ]


def _whole_lengths(phase: PhasePlan, schedule: CosineRestarts, ends: list[str], unit: str) -> str:
    """Which lengths of the phase end with a cycle."""
    if Duration.parse(schedule.first).unit == "percent":
        return f"first = {schedule.first!r} is a share of the phase, so no other length ends with a cycle: change first"
    about = "about " if Duration.parse(schedule.warmup).unit == "percent" and _steps(schedule.warmup, phase) else ""
    return f"a phase of {about}{' or '.join(ends)} {unit} ends with a cycle"


def _steps(length: str, phase: PhasePlan) -> int:
    return Duration.parse(length).steps(phase.steps, phase.steps_per_epoch)
