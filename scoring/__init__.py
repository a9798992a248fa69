"""What the model became: the eval suite, its engine, and every verdict that tables can give."""
