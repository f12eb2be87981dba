"""What will the model see? Every label problem before the first step, said in words and mended where it can be."""
