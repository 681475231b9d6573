"""`pyrl sac-test ENV [PATH]` and its siblings."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pyrl_sb3.cli import options, output
from pyrl_sb3.cli.train import example_env
from pyrl_sb3.errors import counted
from pyrl_sb3.training.agents import AGENTS, NamedAgent

if TYPE_CHECKING:
    from rich.console import Console

    from pyrl_sb3.training.trial import TrialRequest

_FILMED_EPISODES = 5


def add_commands(app: typer.Typer, agents: Iterable[NamedAgent] = AGENTS.values()) -> None:
    """Add one testing command for each agent."""
    for agent in agents:
        example = f"pyrl {agent.name}-test {example_env(agent)}"
        app.command(
            f"{agent.name}-test",
            help=f"Run a trained {agent.title} model in ENV; print its return and success rate.",
            short_help=f"Test {agent.title}.",
            epilog=f"Examples:  {example}   |   {example} {agent.name} --episodes 50 --gif out.gif",
        )(_command(agent))


def _command(agent: NamedAgent):  # type: ignore[no-untyped-def]  # typer reads the inner signature
    def test(
        env: options.EnvId,
        path: options.ModelPath = None,
        episodes: options.Episodes = 20,
        seed: options.TestSeed = 0,
        device: options.Device = "auto",
        render: options.Render = False,
        gif: options.Gif = None,
        pretrained: options.Pretrained = False,
        trust: options.TrustFiles = False,
        verbose: options.Verbose = False,
    ) -> None:
        from pyrl_sb3.report.video import check_film, has_display, prepare_offscreen
        from pyrl_sb3.training.progress import episodes_bar
        from pyrl_sb3.training.trial import TrialRequest, try_out

        console = output.console_for_log()
        if pretrained:
            # It lacks what only training needs, without which trusted models cannot be built.
            path, trust = _pretrained(agent.name, env, path), False
        if gif:
            check_film(gif)
            prepare_offscreen()
        if render and not has_display():
            console.print("no display to --render on; --gif FILE films the agent instead")
            render = False
        request = TrialRequest(
            agent=agent.name,
            env_id=env,
            path=path,
            episodes=episodes,
            seed=seed,
            device=device,
            render_mode="human" if render else None,
            trust=trust,
        )
        with episodes_bar(console, episodes) as shown:
            evaluation = try_out(request, shown)
        console.print(f"{counted(episodes, 'episode')}: {evaluation}")
        if gif:
            console.print(_film(console, request, gif), markup=False)

    return test


def _pretrained(agent: str, env_id: str, path: Path | None) -> Path:
    from pyrl_sb3.training.errors import InputError
    from pyrl_sb3.training.pretrained import pretrained

    if path is not None:
        raise InputError(f"--pretrained and {path} name two models; leave one of them out")
    return pretrained(agent, env_id)


def _film(console: "Console", request: "TrialRequest", gif: Path) -> str:
    from pyrl_sb3.report.video import NoPictureError, film_trial
    from pyrl_sb3.training.progress import episodes_bar

    episodes = min(request.episodes, _FILMED_EPISODES)
    try:
        with episodes_bar(console, episodes) as shown:
            film_trial(request, gif, episodes, shown)
    except NoPictureError as error:
        return f"no film: {error.about(request.env_id)} ({error})"
    return f"film: {gif}"
