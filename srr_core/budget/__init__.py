"""Where bits go: what every setting of every layer costs the model's output, and the best choice within a budget."""
