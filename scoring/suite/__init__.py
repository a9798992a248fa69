"""The eval suite as data: tasks, their blocks and items. Free of torch."""
