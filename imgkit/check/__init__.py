"""What is wrong with data, before anything is trained on them: `imgkit data check`."""
