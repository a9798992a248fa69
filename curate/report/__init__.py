"""What people look at: one data object, and a page, a table and a JSON form of it."""
