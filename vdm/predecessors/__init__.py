"""The models that came before diffusion: the VAE, hierarchical VAEs and the ladder network.

§2 of De Sousa Ribeiro & Glocker (2024), on the same data, training loop and evaluation as the diffusion model, and with
the same likelihood p(x|z), so that their bounds compare.
"""
