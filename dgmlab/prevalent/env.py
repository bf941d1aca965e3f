"""Navigation as Gymnasium environments: `gymnasium.make("dgmlab/Panoramic-v0")`, `gymnasium.make_vec(..., num_envs=64)`.

    import gymnasium
    import dgmlab.prevalent.env                                    registers the names
    env = gymnasium.make("dgmlab/Panoramic-v0")                    toy houses, toy episodes, nothing to download
    env = gymnasium.make("dgmlab/Panoramic-v0", houses=houses, episodes=load_r2r("train"), features=features)

Two action spaces; action 0 is STOP in both:
- `dgmlab/Panoramic-v0` (Fried et al. 2018; candidates of R2R-EnvDrop): action i goes to candidate i - 1.
- `dgmlab/LowLevel-v0` (Anderson et al. 2018): stop, forward, left, right, up, down, by steps of 30 degrees; forward goes to
  the neighbour nearest to the middle of the picture.

Which actions exist is in the observation (`mask`) and in `info["action_mask"]`, for `action_space.sample(mask)`; one that does
not exist leaves the agent where it is and costs a step. STOP terminates; `max_steps` without STOP truncates.
The vector environment steps all agents over the same tables; its autoreset modes are those of Gymnasium 1.x.
"""

from functools import lru_cache

import numpy as np

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"dgmlab.prevalent.env needs {error.name}, found none. Run `pip install 'dgmlab[navigation]'`.",
                              name=error.name) from None
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dgmlab.prevalent.angles import ANGLE_SIZE, angle_feature
from dgmlab.prevalent.features import observe, open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.simulator import Simulator
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.visibility import VIEW_ELEVATION, VIEW_HEADING
from dgmlab.prevalent.walk import STOP, Walk

LOW_LEVEL = ("stop", "forward", "left", "right", "up", "down")
FORWARD, LEFT, RIGHT, UP, DOWN = range(1, 6)
WAIT = -1  # inside the vector environment: an agent whose episode is about to begin anew


def envdrop_reward(before, after, stopped, success):
    """Reward of R2R-EnvDrop (Tan et al. 2019, r2r_src/agent.py): 2 or -2 for stopping right or wrong, else a sign.

    before, after  (B,) float metres to the nearest goal; a move earns the sign of what it brings nearer
    stopped        (B,) bool; success (B,) bool, stopped near enough
    -> (B,) float
    """
    return np.where(stopped, np.where(success, 2.0, -2.0), np.sign(before - after))


def _box(shape, size, table):
    """Space of features: `size` numbers as the table of views has them, then those of a direction."""
    kind = np.iinfo(table.dtype) if table.dtype.kind in "ui" else np.finfo(np.float32)
    low, high = np.full((*shape, size + ANGLE_SIZE), -1.0, np.float32), np.ones((*shape, size + ANGLE_SIZE), np.float32)
    low[..., :size], high[..., :size] = kind.min, kind.max
    return gymnasium.spaces.Box(low, high)


class _Panoramic:
    """B agents that choose among candidates.

    Observed: views (36, F + 128), candidates (K + 1, F + 128) with STOP first, mask (K + 1,), angle (128,), view.
    """

    max_steps = 35  # as in EnvDrop

    def __init__(self, houses, features, batch_size):
        self.features = features
        self.n_actions = houses.candidates.index.shape[1] + 1
        self.walk = Walk(houses, np.full(batch_size, houses.included.argmax()))
        views = features.views[:1]
        self.spaces = {"views": _box((36,), features.size, views), "candidates": _box((self.n_actions,), features.size, views)}

    @property
    def row(self):
        return self.walk.row

    @property
    def mask(self):
        return self.walk.mask

    def begin(self, agents, rows, headings, elevations):
        self.walk.reset(agents, rows, headings, elevations)

    def act(self, actions):
        exists = np.flatnonzero(self.mask[np.arange(len(actions)), actions] & (actions != WAIT))
        self.walk.move(actions[exists], exists)

    def look(self):
        seen = observe(self.features, self.walk)
        return {"views": seen.views.numpy(), "candidates": seen.candidates.numpy(), "angle": seen.angle.numpy(),
                "view": self.walk.view}


class _LowLevel:
    """B agents that turn and go forward.

    Observed: picture (F + 128,) of the view that the camera is in, its direction relative to the camera, so straight ahead;
    mask (6,), angle (128,) of the camera in the house, view.
    """

    max_steps = 100  # turns are steps

    def __init__(self, houses, features, batch_size):
        self.features, self.n_actions = features, len(LOW_LEVEL)
        self.sim = Simulator(houses, batch_size)
        self.sim.reset(houses.included.argmax())
        self.spaces = {"picture": _box((), features.size, features.views[:1])}

    @property
    def row(self):
        return self.sim.row

    @property
    def mask(self):
        mask = np.ones((self.sim.batch_size, self.n_actions), bool)
        mask[:, FORWARD] = self.sim.neighbours.count > 1
        mask[:, UP], mask[:, DOWN] = self.sim.view < 24, self.sim.view >= 12
        return mask

    def begin(self, agents, rows, headings, elevations):
        self.sim.reset(rows, headings, elevations, agents)

    def act(self, actions):
        index = (actions == FORWARD) & (self.sim.neighbours.count > 1)
        turn = (actions == RIGHT).astype(np.int64) - (actions == LEFT)
        self.sim.step(index.astype(np.int64), turn, (actions == UP).astype(np.int64) - (actions == DOWN))

    def look(self):
        view = self.sim.view
        pictures = self.features.views[self.row][np.arange(len(view)), view].astype(np.float32)
        ahead = np.broadcast_to(angle_feature(0.0, 0.0), (len(view), ANGLE_SIZE))
        return {"picture": np.concatenate([pictures, ahead], axis=1),
                "angle": angle_feature(VIEW_HEADING[view], VIEW_ELEVATION[view]), "view": view}


ACTIONS = {"panoramic": _Panoramic, "low_level": _LowLevel}


@lru_cache(maxsize=1)
def toy_task():
    """(houses, episodes, features) where none are given: 100 episodes in four procedural houses."""
    houses = Houses.toy(range(4))
    return houses, toy_episodes(houses, 100, seed=0), open_features("toy", houses)


class _Game:
    """B agents on episodes: what both environments share. Arrays have one entry an agent."""

    def __init__(self, batch_size, actions, houses, episodes, features, max_steps, reward, threshold):
        if houses is None and episodes is None and features is None:
            houses, episodes, features = toy_task()
        if houses is None or not episodes:
            raise ValueError("an environment needs houses and episodes in them, found none of one. Give both, or nothing for "
                             "toys.")
        if actions not in ACTIONS:
            raise KeyError(f"no actions '{actions}'; choose one of: {', '.join(ACTIONS)}.")
        self.houses, self.episodes, self.reward, self.threshold = houses, list(episodes), reward, threshold
        self.number = {episode.instr_id: number for number, episode in enumerate(self.episodes)}
        self.agents = ACTIONS[actions](houses, features or open_features("none", houses), batch_size)
        self.max_steps = max_steps or self.agents.max_steps
        self.starts = np.array([houses.row(episode.scan, episode.path[0]) for episode in self.episodes])
        self.goals = self._goal_rows()
        self.current, self.steps = np.zeros((2, batch_size), np.int64)
        self.success, self.trails = np.zeros(batch_size, bool), [[] for _ in range(batch_size)]
        texts = [episode.instruction for episode in self.episodes]
        letters = frozenset("".join(texts)) or frozenset(" ")
        self.space = gymnasium.spaces.Dict({
            **self.agents.spaces, "angle": gymnasium.spaces.Box(-1, 1, (ANGLE_SIZE,)), "view": gymnasium.spaces.Discrete(36),
            "mask": gymnasium.spaces.MultiBinary(self.agents.n_actions),
            "instruction": gymnasium.spaces.Text(max(1, *map(len, texts)), min_length=0, charset=letters)})

    def _goal_rows(self):
        """(E, G) rows of the goals of each episode, the first repeated where there are fewer."""
        goals = []
        for episode, start in zip(self.episodes, self.starts, strict=True):
            goals.append([self.houses.row(episode.scan, goal) for goal in episode.goals])
            if not goals[-1] or not np.isfinite(self.houses.distance(start, np.array(goals[-1]))).all():
                raise ValueError(f"episode {episode.instr_id} has no goal that its start leads to, so there is nothing to "
                                 "reward. Leave it out; splits that hide their goals cannot be played.")
        most = max(map(len, goals))
        return np.array([goal + goal[:1] * (most - len(goal)) for goal in goals])

    def begin(self, agents, numbers):
        """New episodes (A,) for agents (A,)."""
        chosen = [self.episodes[number] for number in numbers]
        self.agents.begin(agents, self.starts[numbers], np.array([episode.heading for episode in chosen]),
                          np.array([episode.elevation for episode in chosen]))
        self.current, self.steps, self.success = self.current.copy(), self.steps.copy(), self.success.copy()
        self.current[agents], self.steps[agents], self.success[agents] = numbers, 0, False
        for agent, row in zip(agents, self.starts[numbers].tolist(), strict=True):
            self.trails[agent] = [row]
        self.distance = self._distance()

    def _distance(self):
        return self.houses.distance(self.agents.row[:, None], self.goals[self.current]).min(axis=1)

    def step(self, actions):
        """-> rewards (B,) float64, terminated (B,) bool, truncated (B,) bool; WAIT does nothing."""
        before, here, stopped = self.distance, self.agents.row, actions == STOP
        self.agents.act(actions)
        for agent in np.flatnonzero(self.agents.row != here):
            self.trails[agent].append(int(self.agents.row[agent]))
        self.steps = self.steps + 1
        self.distance = self._distance()
        self.success = stopped & (self.distance < self.threshold)
        rewards = np.asarray(self.reward(before, self.distance, stopped, self.success), np.float64)
        return rewards, stopped, ~stopped & (self.steps >= self.max_steps)

    def look(self):
        """Observation of the batch; the instructions as a tuple of str."""
        return {**self.agents.look(), "mask": self.agents.mask.astype(np.int8),
                "instruction": tuple(self.episodes[number].instruction for number in self.current)}

    def info(self):
        ids = np.array([self.episodes[number].instr_id for number in self.current], dtype=object)
        return {"instr_id": ids, "distance": self.distance, "success": self.success,
                "action_mask": self.agents.mask.astype(np.int8)}

    def pick(self, generator, instr_id=None):
        """Number of the episode that was asked for, else of one drawn."""
        if instr_id is None:
            return int(generator.integers(len(self.episodes)))
        if instr_id not in self.number:
            raise KeyError(f"no episode '{instr_id}' among the {len(self.episodes)} of this environment.")
        return self.number[instr_id]


def _one(batch, agent):
    """What one agent has of a batch."""
    return {name: values[agent] for name, values in batch.items()}


def _one_info(batch, agent):
    """The same of an info, with Python's own numbers."""
    info = _one(batch, agent)
    return {**info, "distance": info["distance"].item(), "success": info["success"].item()}


class NavEnv(gymnasium.Env):
    """One agent on one episode after another.

    actions    'panoramic' or 'low_level'
    houses     Houses, episodes: list of Episode with their goals; toy ones where neither is given
    features   Features of the houses; by default directions only (with toy episodes: toy features)
    max_steps  actions after which an episode is truncated; 35 (panoramic) or 100 (low level) by default
    reward     function like `envdrop_reward`
    threshold  metres from a goal within which stopping is a success (strictly less, as in R2R)

    reset(seed, options): options={"instr_id": id} asks for an episode, else one is drawn.
    info: instr_id, distance (metres to the nearest goal), success (has stopped near enough), action_mask (n,) int8.
    """

    metadata = {"render_modes": []}

    def __init__(self, actions="panoramic", houses=None, episodes=None, features=None, max_steps=None, reward=envdrop_reward,
                 threshold=3.0, render_mode=None):
        self.game = _Game(1, actions, houses, episodes, features, max_steps, reward, threshold)
        self.action_space, self.observation_space = gymnasium.spaces.Discrete(self.game.agents.n_actions), self.game.space
        self.render_mode = render_mode
        self._over = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.game.begin([0], [self.game.pick(self.np_random, (options or {}).get("instr_id"))])
        self._over = False
        return _one(self.game.look(), 0), _one_info(self.game.info(), 0)

    def step(self, action):
        if self._over:
            raise RuntimeError("the episode is over, or was never begun. Call reset before step.")
        if not self.action_space.contains(action):
            raise ValueError(f"action {action!r} is not one of 0..{self.action_space.n - 1}; nothing happened.")
        reward, terminated, truncated = (values[0].item() for values in self.game.step(np.array([action])))
        self._over = terminated or truncated
        return _one(self.game.look(), 0), reward, terminated, truncated, _one_info(self.game.info(), 0)

    @property
    def episode(self):
        """The Episode that is being played."""
        return self.game.episodes[self.game.current[0]]

    @property
    def trail(self):
        """Viewpoint ids visited in this episode, the start first."""
        return [self.game.houses.name(row)[1] for row in self.game.trails[0]]


class NavVectorEnv(VectorEnv):
    """`num_envs` agents stepped together; the other arguments are those of `NavEnv`.

    autoreset_mode  what happens to an agent whose episode is over (Gymnasium 1.x): NEXT_STEP, its next action is ignored and
                    it begins anew with reward 0; SAME_STEP, it begins anew at once, its last observation is in
                    info["final_obs"], the last info in info["final_info"]; DISABLED, reset(options={"reset_mask": (B,) bool})
    reset           seed: int (agent i has seed + i) or a list; options: "instr_id", one or a list of them; "reset_mask"
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs=1, actions="panoramic", houses=None, episodes=None, features=None, max_steps=None,
                 reward=envdrop_reward, threshold=3.0, autoreset_mode=AutoresetMode.NEXT_STEP, render_mode=None):
        self.game = _Game(num_envs, actions, houses, episodes, features, max_steps, reward, threshold)
        self.num_envs, self.render_mode, self.autoreset_mode = num_envs, render_mode, AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_action_space = gymnasium.spaces.Discrete(self.game.agents.n_actions)
        self.single_observation_space = self.game.space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._generators = [np_random()[0] for _ in range(num_envs)]
        self._over = None

    @property
    def np_random(self):
        """One generator an agent, so that agent i goes the way of a NavEnv with its seed."""
        return tuple(self._generators)

    def reset(self, *, seed=None, options=None):
        options = options or {}
        agents = self._chosen(options.get("reset_mask"))
        seeds = seed if isinstance(seed, list | tuple) else [None if seed is None else seed + i for i in range(self.num_envs)]
        ids = options.get("instr_id")
        ids = list(ids) if isinstance(ids, list | tuple | np.ndarray) else [ids] * self.num_envs
        if not len(seeds) == len(ids) == self.num_envs:
            raise ValueError(f"seeds and ids were expected for {self.num_envs} agents, found {len(seeds)} and {len(ids)}.")
        for agent in agents:
            if seeds[agent] is not None:
                self._generators[agent], _ = np_random(seeds[agent])
        self.game.begin(agents, [self.game.pick(self._generators[agent], ids[agent]) for agent in agents])
        self._over = np.zeros(self.num_envs, bool) if self._over is None else self._over.copy()
        self._over[agents] = False
        return self.game.look(), self._masked(self.game.info(), np.isin(np.arange(self.num_envs), agents))

    def _chosen(self, mask):
        if mask is None:
            return np.arange(self.num_envs)
        if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (self.num_envs,) and mask.any()):
            raise ValueError(f"reset_mask was expected as a bool array of {self.num_envs} agents, at least one of them True.")
        if self._over is None and not mask.all():
            raise RuntimeError("some agents were to be reset before all were. Call reset without a mask first.")
        return np.flatnonzero(mask)

    def step(self, actions):
        if self._over is None:
            raise RuntimeError("step was called before reset. Call reset first.")
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu" or actions.shape != (self.num_envs,) or (actions.astype(np.uint64) >= np.uint64(
                self.single_action_space.n)).any():
            raise ValueError(f"actions were expected as {self.num_envs} whole numbers 0..{self.single_action_space.n - 1}; "
                             "nothing happened.")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._over.any():
            raise RuntimeError(f"the episodes of agents {np.flatnonzero(self._over).tolist()} are over. Reset them with "
                               'options={"reset_mask": ...}.')
        fresh = self._over
        rewards, terminated, truncated = self.game.step(np.where(fresh, WAIT, actions))
        self._begin_again(fresh)
        rewards, terminated, truncated = np.where(fresh, 0.0, rewards), terminated & ~fresh, truncated & ~fresh
        ended, infos = terminated | truncated, {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
            looks, last = self.game.look(), self.game.info()
            for agent in np.flatnonzero(ended):
                final = {"final_obs": _one(looks, agent), "final_info": _one_info(last, agent)}
                infos = self._add_info(infos, final, agent)
            self._begin_again(ended)
        self._over = ended if self.autoreset_mode is not AutoresetMode.SAME_STEP else np.zeros_like(ended)
        infos |= self._masked(self.game.info(), np.ones(self.num_envs, bool))
        return self.game.look(), rewards, terminated, truncated, infos

    def _begin_again(self, who):
        agents = np.flatnonzero(who)
        if len(agents):
            self.game.begin(agents, [self.game.pick(self._generators[agent]) for agent in agents])

    @staticmethod
    def _masked(info, who):
        """Infos as Gymnasium's vector environments have them: `_name` says for whom `name` is told."""
        return {**info, **{f"_{name}": who.copy() for name in info}}


for _name, _actions in (("Panoramic", "panoramic"), ("LowLevel", "low_level")):
    gymnasium.register(f"dgmlab/{_name}-v0", entry_point="dgmlab.prevalent.env:NavEnv",
                       vector_entry_point="dgmlab.prevalent.env:NavVectorEnv", kwargs={"actions": _actions})
