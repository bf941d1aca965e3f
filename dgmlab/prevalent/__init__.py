"""Prevalent: pre-training an agent that follows instructions through houses it has never seen.

Hao, Li, Li, Carin, Gao: "Towards Learning a Generic Agent for Vision-and-Language Navigation via Pre-training", CVPR 2020,
arXiv 2002.10638. Around it stand the simulator (Anderson et al. 2018), the speaker and the follower of EnvDrop (Tan et al.
2019), and the tasks R2R, CVDN, HANNA, REVERIE and R4R.

    houses as graphs, and procedural ones          house, houses, toy_house, candidates
    the simulator, and its own Python module       simulator, mattersim
    walking over candidates; Gymnasium             walk, env
    what is seen: files, objects and rooms         features, semantic, angles
    what is read                                   words, episodes, tasks, ndh, toy_tasks
    all shortest paths worth describing            paths
    trajectory -> instruction, 6.5 M of them       speaker, train_speaker, synthesis
    9 text + 4 cross layers; two objectives        model, objective, triplets, pretrain
    no validation text in pre-training             leak
    agents: imitation + actor-critic, beams        policies, agent, rollout, actor_critic, finetune, beam
    finding objects, and asking for help           hanna, hanna_agent, hanna_play, hanna_teacher, hanna_train
    scores with intervals, files for a server      evaluate, dgmlab.metrics.navigation

The smallest usage that works, with nothing to download:

    from dgmlab.prevalent import House, Houses, toy_episodes
    from dgmlab.prevalent.finetune import FinetuneConfig, train
    from dgmlab.run import Run
    numbers = train(Run.start("runs/follower", {}), FinetuneConfig(agent="follower", n_steps=300))

and in place of the compiled module, for code that exists:

    import dgmlab.prevalent.mattersim as MatterSim

What differs from the released code: one layout of the directions everywhere (its pre-training and its fine-tuning permute
them), training houses and training instructions only (its 104 thousand steps hold both validation splits), STOP is action 0
everywhere, frozen parameters are not in the optimizer, and an episode that has ended takes no further action.
"""

from dgmlab import front_door

__getattr__ = front_door(__name__, {
    "House": "house", "Houses": "houses", "Simulator": "simulator", "Walk": "walk", "STOP": "walk",
    "Features": "features", "open_features": "features", "observe": "features", "Words": "words",
    "Episode": "episodes", "load_r2r": "tasks", "load_reverie": "tasks", "make_r4r": "tasks", "load_ndh": "ndh",
    "load_hanna": "hanna", "toy_episodes": "toy_tasks", "augmentation_paths": "paths",
    "Prevalent": "model", "PrevalentForPretraining": "model", "run_episodes": "rollout", "load_agent": "agent",
    "beam_search": "beam", "write_submission": "evaluate", "check_submission": "evaluate",
})
