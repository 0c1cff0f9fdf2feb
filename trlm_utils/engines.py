"""Engines that draw GRPO's completions: the course's loop, transformers, or vLLM.

Another engine, or another number format, gives tokens other probabilities than the policy that
is trained. GRPO's ratio then starts from the wrong place: it divides by the policy's own
probability of a token, and not by that with which the token was drawn. The correction is
importance sampling: each completion is weighted by policy / sampler (Yao et al. 2025, *Your
Efficient RL Framework Secretly Brings You Off-Policy RL Training*); TRL leaves out those whose
weight is above `LARGEST`. TRL corrects for vLLM, the course for its own copy in another format;
transformers' continuous batching reports no probabilities, so there nothing is corrected.
"""

from __future__ import annotations

from typing import Any

from trlm_utils import machine, ranks, samplers
from trlm_utils.rollouts import Rollouts

WITHOUT_VLLM = ("course", "generate", "transformers")
NAMES = (*WITHOUT_VLLM, "vllm", "vllm_server")
LARGEST = 3.0  # weight above which a completion is left out; TRL's default


def check(values: dict[str, Any]) -> None:
    """Check that the engine of a notebook's parameters can draw there; see ``ROLLOUTS``.

    Raises:
        ValueError: when it cannot.
        CourseError: when vLLM is asked for and not installed.
    """
    name = values.get("ROLLOUTS", "course")
    if values.get("ROLLOUT_DTYPE", "float32") != "float32" and name != "course":
        raise ValueError("ROLLOUT_DTYPE is about ROLLOUTS course: another engine has its own")
    if values.get("METHOD") == "ppo" and name not in WITHOUT_VLLM:
        raise ValueError(
            f"ROLLOUTS {name}: PPO's loop hands no weights to vLLM: {', '.join(WITHOUT_VLLM)}"
        )
    if "EVALUATE" in values and name not in samplers.BY_NAME:
        raise ValueError(
            f"ROLLOUTS {name} is for training; in an evaluation: {', '.join(samplers.BY_NAME)}"
        )
    if name not in WITHOUT_VLLM:
        samplers.require_vllm(name)


def settings(name: str, corrected: bool | None = True) -> dict[str, Any]:
    """What GRPOConfig gets for an engine; RLOOConfig too, which knows no correction.

    Args:
        name: course; generate (of the trained model); transformers (its continuous batching);
            vllm (in the training's own process); vllm_server (``trl vllm-serve``, another card).
        corrected: weigh completions by policy / sampler; None leaves that out.

    Raises:
        CourseError: when vLLM is asked for and not installed.
        ValueError: for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"ROLLOUTS is {name!r}: write one of {', '.join(NAMES)}")
    found: dict[str, Any] = {}
    if corrected is not None:
        found["vllm_importance_sampling_correction"] = corrected
        found["vllm_importance_sampling_clip_max"] = LARGEST
    if name == "transformers":
        places = samplers.room(machine.torch_device().type)
        own = {"transformers_continuous_batching_config": places} if places else {}
        return found | {"use_transformers_continuous_batching": True} | own
    if name in ("course", "generate"):
        return found
    samplers.require_vllm(name)
    if name == "vllm_server":
        return found | {"use_vllm": True, "vllm_mode": "server"}
    return found | {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": samplers.SHARE,
    }


def trainer_class(draw: Rollouts | None) -> type:
    """TRL's GRPOTrainer; one that corrects where the course's own sampler asks for it.

    TRL corrects only where vLLM draws. `Rollouts` returns the sampler's log-probabilities in the
    same form, so the trainer is told that vLLM drew.

    The log gets ``sampling/left_out``, the share of completions whose weight was too large,
    beside TRL's ``sampling/importance_sampling_ratio``.
    """
    from trl import GRPOTrainer

    if draw is None or not draw.corrected:
        return ranks.taking_optimizers(GRPOTrainer)

    class CorrectedGRPO(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):  # noqa: ANN001, ANN202
            if self.rollout_func is None:  # another engine draws, and TRL corrects for it
                return super()._generate_and_score_completions(inputs)
            self.use_vllm, self._last_loaded_step = True, self.state.global_step
            try:
                found = super()._generate_and_score_completions(inputs)
            finally:
                self.use_vllm = False
            left_out = (found["importance_sampling_ratio"] == 0).float().mean()
            everyone = self.accelerator.gather(left_out).mean().item()
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["sampling/left_out"].append(everyone)
            return found

        def _compute_loss(self, model, inputs):  # noqa: ANN001, ANN202
            before, self.use_vllm = self.use_vllm, True
            try:
                return super()._compute_loss(model, inputs)
            finally:
                self.use_vllm = before

    return ranks.taking_optimizers(CorrectedGRPO)
