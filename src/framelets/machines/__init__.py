"""Learning machines under one interface: what they learn, and what their expansion adapts to."""

from framelets.machines.convolution_framelet_machine import (
    ConvolutionFrameletMachine,
    FittedConvolutionFramelets,
)
from framelets.machines.deep_framelet_machine import deep_framelet_machine
from framelets.machines.encoder_decoder_machine import encoder_decoder_machine
from framelets.machines.frame_machine import FittedFrameMachine, FrameMachine
from framelets.machines.kernel_machine import KERNELS, FittedKernelMachine, KernelMachine
from framelets.machines.machine import FittedMachine, Machine
from framelets.machines.network_machine import FittedNetwork, NetworkMachine
from framelets.machines.perceptron import RandomPerceptronMachine, perceptron_machine
from framelets.machines.pixel_basis import PixelBasis, atom_change, filter_change
from framelets.machines.sparse_frame_machine import (
    FittedSparseFrameMachine,
    SparseFrameMachine,
)

__all__ = [
    "KERNELS",
    "ConvolutionFrameletMachine",
    "FittedConvolutionFramelets",
    "FittedFrameMachine",
    "FittedKernelMachine",
    "FittedMachine",
    "FittedNetwork",
    "FittedSparseFrameMachine",
    "FrameMachine",
    "KernelMachine",
    "Machine",
    "NetworkMachine",
    "PixelBasis",
    "RandomPerceptronMachine",
    "SparseFrameMachine",
    "atom_change",
    "deep_framelet_machine",
    "encoder_decoder_machine",
    "filter_change",
    "perceptron_machine",
]
