"""Plans: several commands of the recipe as one that can be resumed."""
