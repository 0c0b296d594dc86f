"""Very many pictures: Parquet files and folders in, scores or an evaluation out."""
