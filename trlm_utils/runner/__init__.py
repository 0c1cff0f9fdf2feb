"""The runner: checked recipes, the pipeline, reports, verification, time and cost estimates."""
