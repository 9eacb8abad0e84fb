"""The recipe: a training as values, and the plan made from it."""
