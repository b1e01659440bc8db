"""What is made of results: tables, plots, pictures, the paper's figures beside ours."""
