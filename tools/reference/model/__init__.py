# SPDX-License-Identifier: Apache-2.0
"""The networks of live2diff in PyTorch: parameter names are those of the model folder's tensors."""
