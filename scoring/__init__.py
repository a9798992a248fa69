"""What the model became: the eval suite, its engine, and every verdict that is a function of tables."""
