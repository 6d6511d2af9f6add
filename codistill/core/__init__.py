"""The training step: students, tasks, teachers and a method as one module whose forward pass is the losses."""
