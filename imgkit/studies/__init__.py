"""Studies: a grid of recipe values and seeds as ordinary runs, and what they tell together."""
