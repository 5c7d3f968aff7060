"""Tasks: data, physics, networks, loss and baselines of one problem, and their shipped weights."""

from framelets.tasks.plan import TASKS, TrainingPlan, load_plan, load_shipped
from framelets.tasks.shipped import SHIPPED_WEIGHTS, model_card
from framelets.tasks.sparse_view_ct import NetworkProblem, SparseViewCT, SparseViewCTConfig
from framelets.tasks.tuned_total_variation import TUNED_PHOTONS

__all__ = [
    "SHIPPED_WEIGHTS",
    "TASKS",
    "TUNED_PHOTONS",
    "NetworkProblem",
    "SparseViewCT",
    "SparseViewCTConfig",
    "TrainingPlan",
    "load_plan",
    "load_shipped",
    "model_card",
]
