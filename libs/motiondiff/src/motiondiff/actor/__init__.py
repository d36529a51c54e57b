"""ACTOR, the transformer VAE of Petrovich, Black and Varol (ICCV 2021), written from the paper.

It stands beside the diffusion model as a published method: the same representation, the same split, the same bodies.
"""
