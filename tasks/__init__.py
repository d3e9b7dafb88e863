"""Run the stages of mimix_core as Prefect tasks; one module per stage, without domain logic."""
