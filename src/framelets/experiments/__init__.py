"""Experiments: each makes a table or a figure of the theory from shipped weights and open data."""

from collections.abc import Callable

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.convolution_framelets import compare_convolution_framelets
from framelets.experiments.convolution_framelets_tuning import tune_convolution_framelets
from framelets.experiments.expressivity import measure_expressivity
from framelets.experiments.identity_start import compare_starts
from framelets.experiments.learning_machines import compare_learning_machines
from framelets.experiments.lipschitz import relate_lipschitz_to_gap
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.sparse_view_ct import compare_on_sparse_views
from framelets.experiments.tv_weights import tune_tv_weights

EXPERIMENTS: dict[str, Callable[[RunFolder, ExperimentOptions], Result]] = {
    "convolution-framelets": compare_convolution_framelets,
    "convolution-framelets-tuning": tune_convolution_framelets,
    "expressivity": measure_expressivity,
    "identity-start": compare_starts,
    "learning-machines": compare_learning_machines,
    "lipschitz": relate_lipschitz_to_gap,
    "sparse-view-ct": compare_on_sparse_views,
    "tv-weights": tune_tv_weights,
}
"""Every experiment by name."""

__all__ = ["EXPERIMENTS", "ExperimentOptions"]
