"""What is asked: tasks, and the families that make them."""
