"""Running recipes: checked recipes, the pipeline, reports, verification, estimates."""
