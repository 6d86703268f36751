"""What the functions of `modal_deploy.py` do; it holds only how Modal is to run them."""
