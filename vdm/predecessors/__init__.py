"""The models that came before diffusion: the VAE, hierarchical VAEs and the ladder network.

They are the models of §2 of De Sousa Ribeiro & Glocker (2024). They use the same data, training loop, evaluation and
likelihood p(x|z) as the diffusion model, so that their bounds can be compared with its bound.
"""
