"""What is measured, a file for each question. Each takes a system that runs and gives figures and what they were made from."""
