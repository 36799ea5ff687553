"""`longreach bench resume`: how long a stream pauses when its replica dies, its prompt's blocks in Redis or not."""
