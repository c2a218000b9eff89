"""`python -m jaxmatte` is the command `jaxmatte`."""

from jaxmatte.cli import app

if __name__ == "__main__":
    app(prog_name="jaxmatte")
