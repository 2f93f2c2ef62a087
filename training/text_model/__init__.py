"""How text models are fitted: words, their vectors, recipes, and baselines to beat."""
