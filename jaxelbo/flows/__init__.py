"""Invertible maps of noise ``[D]`` with learned parameters, each with its log-determinant both ways.

Floor 1. Nothing here knows a family: arrays in, arrays out. `jaxelbo.families` makes distributions of them.
"""
