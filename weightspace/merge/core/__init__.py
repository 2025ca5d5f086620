"""The algebra of recipes: steps as data, and the engine that runs them."""
