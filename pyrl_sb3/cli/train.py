"""`pyrl sac-train ENV` and its siblings."""

import typer

from pyrl_sb3.cli import options
from pyrl_sb3.training.agents import AGENTS, Agent

_EXAMPLES = {
    "sac": "Pendulum-v1",
    "td3": "HalfCheetah-v5",
    "ddpg": "BipedalWalker-v3",
    "her-sac": "FetchReach-v4",
    "her-td3": "FetchReach-v4",
    "her-ddpg": "FetchPush-v4",
}
_OTHER_EXAMPLES = {False: "Pendulum-v1", True: "FetchReach-v4"}  # without and with a goal


def add_commands(app: typer.Typer) -> None:
    """Add one training command for each agent."""
    for agent in AGENTS.values():
        env = _EXAMPLES.get(agent.name, _OTHER_EXAMPLES[agent.needs_goal])
        example = f"pyrl {agent.name}-train {env}"
        app.command(
            f"{agent.name}-train",
            help=f"Train {agent.title} in ENV and save it under {agent.name}/ENV_1, ENV_2, ...",
            short_help=f"Train {agent.title}.",
            epilog=f"Examples:  {example}   |   {example} --timesteps 20000 --seed 1 --n-envs 4",
        )(_command(agent))


def _command(agent: Agent):  # type: ignore[no-untyped-def]  # typer reads the inner signature
    def train(
        env: options.EnvId,
        timesteps: options.Timesteps = None,
        seed: options.Seed = None,
        save: options.Save = None,
        config: options.Config = None,
        overrides: options.Overrides = None,
        noise: options.Noise = None,
        buffer: options.Buffer = None,
        trust: options.Trust = False,
        n_envs: options.NEnvs = None,
        device: options.Device = "auto",
        eval_episodes: options.EvalEpisodes = 10,
        eval_freq: options.EvalFreq = None,
        threads: options.Threads = None,
        stock: options.Stock = False,
        verbose: options.Verbose = False,
    ) -> int:
        from pyrl_sb3.training.progress import ProgressReport
        from pyrl_sb3.training.request import TrainingRequest
        from pyrl_sb3.training.run import train as run

        request = TrainingRequest(
            agent=agent.name,
            env_id=env,
            timesteps=timesteps,
            seed=seed,
            save=save,
            config=config,
            overrides=tuple(overrides or ()),
            noise=noise,
            buffer=buffer,
            trust=trust,
            n_envs=n_envs,
            device=device,
            eval_episodes=eval_episodes,
            eval_freq=eval_freq,
            threads=threads,
            stock=stock,
        )
        console = options.console_for_log()
        result = run(request, [ProgressReport(console)])
        if result.stopped_by:
            return options.say_stopped(console, result)
        console.print(f"final evaluation: {result.evaluation}")
        console.print(f"model saved: {result.model}", markup=False)
        console.print(f"test it: pyrl {agent.name}-test {env} {result.folder}", markup=False)
        return 0

    return train
