"""What the graders know: calls and references, known mistakes, the exam."""
