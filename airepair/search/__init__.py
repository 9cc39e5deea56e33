"""What search-based and causal methods share: localisation, cached prefixes, batched candidates,
particle swarms, differential evolution.

pareto         members that nothing dominates
swarm          particle swarm optimisation
evolution      differential evolution, DE/rand/1/bin
localise       forward impact and gradient loss of each weight
prefix         outputs of everything that runs before the first changed layer, recorded once and
               replayed
batched        one call of a function over many candidates
sparse         what a few changed weights add to a layer's output
patch          some weights of a module as a vector; the logits under a whole population of such
               vectors
intervene      layer outputs changed by hooks, many changes in one pass
sampling       inputs drawn from a split; uniform, Halton and cross-entropy points of a unit cube
modifications  seeded batched changes of images
"""
